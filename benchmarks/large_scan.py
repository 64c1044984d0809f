"""Peak memory of importing and preparing one very large scan, and time of importing large tables; JSON.

    python benchmarks/large_scan.py

The scan is a brain of noise in air of 0, float64, 1.1 GB of voxels, compressed; beside it lie three small ones. It is
imported and prepared by the commands, in processes of their own with `-np 1`. Memory is the largest sum of the resident
sets of a command and its children, looked at every 20 ms, or the peak of the command alone, whichever is more.

Tables have a row and a small scan of its own for each person; two clinical tables are joined by subject. Seconds are
those of the processor, of the whole command and per row.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "large_scan.json"
HEAD_MM = 180.0
SMALL_VOXELS = 60
COMMAND = "from adnext_plugin.cli.{module} import main; raise SystemExit(main())"


def main() -> None:
    """Measure and report."""
    arguments = _parse()
    report: dict = {"made_by": provenance(), "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as work:
        report["scan"] = _scan(Path(work), arguments.voxels)
    report["tables"] = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as work:
            report["tables"].append(_table(Path(work), rows))
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _scan(work: Path, voxels: int) -> dict:
    images = work / "images"
    images.mkdir()
    for seed, (name, edge) in enumerate({"large": voxels, **dict.fromkeys("bcd", SMALL_VOXELS)}.items()):
        _write_brain(images / f"{name}.nii.gz", edge, seed)
    pd.DataFrame({"subject": ["large", "b", "c", "d"]}).to_csv(work / "table.csv", index=False)
    source = ["--table", str(work / "table.csv"), "--images", str(images), "--image-pattern", "{subject}.nii.gz"]
    steps = {
        "import": _run(work, "import_dataset", ["1", "Large", *source, "--unlabelled", "-np", "1"]),
        "plan_and_preprocess": _run(work, "plan_and_preprocess", ["-d", "1", "-np", "1"]),
    }
    stored = list((work / "nnUNet_preprocessed").rglob("large*.b2nd"))
    assert len(stored) == 1, stored
    return {
        "voxels": [voxels] * 3,
        "gigabytes_of_voxels": voxels**3 * 8 / 1e9,
        "gigabytes_of_file": (images / "large.nii.gz").stat().st_size / 1e9,
        "steps": steps,
    }


def _write_brain(path: Path, edge: int, seed: int) -> None:
    """An ellipsoid of noise as large as a brain, slice by slice, so that writing needs less memory than reading."""
    generator = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, edge)
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1)), np.diag([*[HEAD_MM / edge] * 3, 1])).header
    header.set_data_shape((edge, edge, edge))
    header.set_data_dtype(np.float64)
    inside_xy = (axis[:, None] / 0.75) ** 2 + (axis[None, :] / 0.9) ** 2
    with nibabel.openers.Opener(str(path), "wb", compresslevel=1) as file:
        header["vox_offset"], header["magic"] = 352, b"n+1"
        header.write_to(file)
        file.write(b"\0" * (352 - file.tell()))
        for z in axis:
            inside = inside_xy + (z / 0.75) ** 2 < 1
            slice_xy = np.where(inside, generator.normal(700, 150, inside.shape), 0.0)
            file.write(slice_xy.tobytes(order="F"))


def _table(work: Path, rows: int) -> dict:
    images = work / "images"
    images.mkdir()
    generator = np.random.default_rng(0)
    names = [f"{index:05d}" for index in range(rows)]
    for name in names:
        volume = np.zeros((16, 16, 16), np.float32)
        volume[3:13, 3:13, 3:13] = generator.uniform(1, 2, (10, 10, 10))
        image = nibabel.Nifti1Image(volume, np.diag([12.0, 12.0, 12.0, 1.0]))
        nibabel.save(image, images / f"x{name}_T1.nii.gz")
    classes = ["CN", "AD"] * rows
    pd.DataFrame({"subject": names, "session": "M00"}).to_csv(work / "table.csv", index=False)
    pd.DataFrame({"subject": names, "dx": classes[:rows]}).to_csv(work / "clinical.csv", index=False)
    pd.DataFrame({"subject": names, "age": 70, "sex": "F"}).to_csv(work / "people.csv", index=False)
    arguments = ["1", "Table", "--table", str(work / "table.csv"), "--images", str(images), "-np", "1"]
    arguments += ["--image-pattern", "x{subject}*.nii.gz", "--target", "dx", "--label-map", "CN=CN", "AD=AD"]
    arguments += ["--clinical", str(work / "clinical.csv"), "--clinical", str(work / "people.csv")]
    measured = _run(work, "import_dataset", arguments)
    imported = pd.read_csv(work / "nnUNet_raw" / "Dataset001_Table" / "subjects.csv")
    assert len(imported) == rows
    return {"rows": rows, **measured, "milliseconds_per_row": 1000 * measured["cpu_seconds"] / rows}


def _run(work: Path, module: str, arguments: list[str]) -> dict:
    folders = {f"nnUNet_{part}": str(work / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
    for folder in folders.values():
        Path(folder).mkdir(exist_ok=True)
    command = [sys.executable, "-c", COMMAND.format(module=module), *arguments]
    with (work / f"{module}.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **folders}, stdout=log, stderr=subprocess.STDOUT)
        peak = 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, sum(_resident_bytes(one) for one in _with_children(process.pid)))
            time.sleep(0.02)
    if status != 0:
        raise SystemExit((work / f"{module}.log").read_text())
    return {
        "peak_gibibytes": max(peak, usage.ru_maxrss * 1024) / 2**30,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def _with_children(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(one for child in children for one in _with_children(int(child)))]


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=516, help="edge of the large scan (default: %(default)s)")
    parser.add_argument("--rows", nargs="*", type=int, default=[1250, 2500, 5000], help="of tables")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
