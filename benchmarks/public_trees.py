"""Import over a folder of public BIDS trees, every cell compared with the tables as pandas reads them.

    git clone https://github.com/bids-standard/bids-examples
    python benchmarks/public_trees.py bids-examples

The images of such trees are empty files; small scans of noise stand in for them in a copy that is thrown away. For
each tree with anatomical images the command `adnext_import` is run without a target. What `subjects.csv` then says of
each scan, and what the import knows of it for filters and targets, must be what the tree's tables say, read
independently: by pandas, rows found by ids to the letter. Only counts are written.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from adnext_plugin.cli import import_dataset
from adnext_plugin.errors import AdnextError
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).with_name("results") / "public_trees.json"
IDS = ("participant_id", "session_id", "filename")
SIDECAR = {"MagneticFieldStrength", "Manufacturer", "ManufacturersModelName", "InstitutionName"}
COUNTS = ("scans", "cells", "wrong_cells")
SUFFIXES = ("T1w", "T2w", "bold")  # the first that a tree has in anat/


def main() -> None:
    """Run the import over all trees and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path, help="folder of BIDS trees")
    parser.add_argument("--commit", default="", help="of the collection of trees, for the result")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    outcomes: dict[str, dict] = {}
    for tree in sorted(path for path in arguments.trees.iterdir() if path.is_dir() and any(path.glob("sub-*"))):
        outcomes[tree.name] = judge(tree)
        print(tree.name, json.dumps(outcomes[tree.name]), flush=True)
    kinds = Counter(outcome["outcome"] for outcome in outcomes.values())
    report = {
        "made_by": provenance(),
        "collection_commit": arguments.commit,
        "trees": len(outcomes),
        "outcomes": dict(kinds.most_common()),
        **{
            name: sum(outcome.get(name, 0) for outcome in outcomes.values())
            for name in ("scans", "cells", "wrong_cells")
        },
        "refused": {name: outcome["reason"] for name, outcome in outcomes.items() if outcome["outcome"] == "refused"},
    }
    text = json.dumps(report, indent=1)
    print(text)
    arguments.result.write_text(text + "\n")


def judge(tree: Path) -> dict:
    """What the import makes of one tree: imported, refused, or without images of heads; with cells compared."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / tree.name
        shutil.copytree(tree, root, symlinks=True, ignore_dangling_symlinks=True)
        scans = fill(root)
        suffix = next(
            (one for one in SUFFIXES if any(path.name.split(".")[0].endswith(f"_{one}") for path in scans)), None
        )
        if suffix is None:
            return {"outcome": "no anatomical images"}
        code, errors = run_import(root, suffix, Path(folder) / "raw")
        try:
            source = read_bids_source(BidsOptions(root=root, suffix=suffix))
        except AdnextError as error:
            assert code == 2, "what cannot be read was imported"
            return {"outcome": "refused", "reason": str(error).replace(folder, "")[:300]}
        cells, wrong = compare(root, source.scans)
        if code == 2:
            return {
                "outcome": "refused",
                "reason": errors.replace(folder, "")[:300],
                "cells": cells,
                "wrong_cells": len(wrong),
            }
        more, worse = compare_dataset(Path(folder) / "raw" / "Dataset001_Tree", source.scans)
        for line in [*wrong, *worse][:5]:
            print("  wrong:", line)
        return {
            "outcome": "imported",
            "scans": len(source.scans),
            "cells": cells + more,
            "wrong_cells": len(wrong) + len(worse),
        }


def fill(root: Path) -> list[Path]:
    """Small scans of noise in place of the empty images in folders `anat`; their paths."""
    generator = np.random.default_rng(0)
    paths = [path for path in sorted(root.glob("sub-*/**/anat/*.nii*")) if not path.name.endswith(".json")]
    for path in paths:
        path.unlink()
        noise = generator.normal(100, 20, (8, 8, 8)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(noise, np.diag([20.0, 20.0, 20.0, 1.0])), path)
    return paths


def run_import(root: Path, suffix: str, raw: Path) -> tuple[int, str]:
    """The command's exit code and errors."""
    os.environ["nnUNet_raw"] = str(raw)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = import_dataset.main(["1", "Tree", "--bids", str(root), "--suffix", suffix, "--unlabelled", "-np", "1"])
    lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
    return code, " ".join(lines).removeprefix("error: ")


def compare(root: Path, scans: tuple) -> tuple[int, list[str]]:
    """How many cells of the tables there are about these scans, and those that the import has otherwise."""
    cells, wrong = 0, []
    for scan in scans:
        expected = row_by_pandas(root, scan.subject_id, scan.session_id, scan.image)
        for column, cell in expected.items():
            cells += 1
            if scan.row.get(column, "") != cell:
                wrong.append(f"{scan} {column}: {scan.row.get(column)!r} instead of {cell!r}")
        invented = {name for name, cell in scan.row.items() if cell and name not in expected} - SIDECAR
        wrong += [f"{scan} {name}: {scan.row[name]!r} is in no table" for name in invented]
    return cells, wrong


def compare_dataset(folder: Path, scans: tuple) -> tuple[int, list[str]]:
    """The same for ages and sexes in `subjects.csv`: a number or a letter that stands in the scan's own row."""
    table = pd.read_csv(folder / "subjects.csv", dtype=str, keep_default_na=False)
    rows_of: dict[tuple[str, str], list] = {}
    for scan in scans:
        rows_of.setdefault((scan.subject_id, scan.session_id), []).append(scan.row)
    cells, wrong = 0, []
    for case in table.to_dict("records"):
        for row in rows_of[case["subject_id"], case["session_id"]][:1]:
            lower = {name.lower(): cell for name, cell in row.items()}
            age = pd.to_numeric(lower.get("age", "").removesuffix("+"), errors="coerce")
            known = {"age": "" if np.isnan(age) else str(float(age)), "sex": lower.get("sex", lower.get("gender", ""))}
            known["sex"] = known["sex"][:1].upper() if known["sex"].lower() in ("m", "f", "male", "female") else ""
            for column in set(known) & set(case):
                cells += 1
                if case[column] != known[column] and not (column == "sex" and known["sex"] == ""):
                    wrong.append(f"{case['case_id']} {column}: {case[column]!r} instead of {known[column]!r}")
    return cells, wrong


def row_by_pandas(root: Path, subject: str, session: str, image: Path) -> dict[str, str]:
    """All cells about a scan: participants, phenotypes, sessions, scans, the later overruling the earlier."""
    row = only_row(table_by_pandas(root / "participants.tsv"), {"participant_id": subject, "session_id": session}) or {}
    for path in sorted(root.glob("phenotype/*.tsv")):
        found = only_row(table_by_pandas(path), {"participant_id": subject, "session_id": session}) or {}
        row |= {f"{path.stem}.{name}" if name in row else name: cell for name, cell in found.items()}
    sessions = table_by_pandas(root / subject / f"{subject}_sessions.tsv")
    row |= only_row(sessions, {"session_id": session}) or {}
    name = "_".join(filter(None, (subject, session, "scans.tsv")))
    listed = table_by_pandas(root / subject / session / name)
    if listed is not None and "filename" in listed:
        found = listed[[Path(cell).name == image.name for cell in listed["filename"]]]
        row |= {} if found.empty else found.iloc[0].to_dict()
    return row


def only_row(table: pd.DataFrame | None, ids: dict[str, str]) -> dict[str, str] | None:
    """The one row with these ids, without them; None where there is none or more than one."""
    if table is None:
        return None
    ids = {name: value for name, value in ids.items() if name in table}
    found = table[np.logical_and.reduce([table[name] == value for name, value in ids.items()])]
    if len(found) != 1 or table.duplicated(list(ids)).any():
        return None
    return found.drop(columns=list(ids)).iloc[0].to_dict()


def table_by_pandas(path: Path) -> pd.DataFrame | None:
    """A table as text, every cell without surrounding blanks."""
    if not path.is_file():
        return None
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table.columns = table.columns.str.strip()
    return table.map(str.strip)


if __name__ == "__main__":
    main()
