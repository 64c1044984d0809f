"""Python beside C++: the same training of the PoliMI CNN, and the same prediction, with one thread and with two.

    deploy/cpp/build.sh && python benchmarks/python_cpp.py --work DIR [--build deploy/cpp/build]

Of every arm: seconds of the wall clock and of the processor, and the largest resident memory, each of a process of its
own. Arms take turns, the quickest of all repeats counts. Training is Adam on phantoms of 88 voxels in the order of the
table, from the same first weights and without augmentation, so that losses can be compared. Prediction goes from a
NIfTI file to the answer; `stored` is a scan that has been prepared. Starting the programs is part of both. Writes
benchmarks/results/python_cpp.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from exports import fresh_model

from adnext_plugin.demo.phantom_cohort import draw_subjects, write_cohort
from adnext_plugin.deployment.kinds import SUFFIXES
from adnext_plugin.deployment.writers import write_program
from adnext_plugin.images import read_volume
from adnext_plugin.networks.families.liu import polimi_cnn
from adnext_plugin.paths import BLOCK, plans_file
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.prediction.bundle import write_bundle
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.preprocessor import CaseJob, prepare_case
from adnext_plugin.records import to_json
from adnext_plugin.stored_volumes import volume_file
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "python_cpp.json"
SIZE, SPACING_MM = 88, 2.1
PEOPLE = 6  # the last two are for validation
# a small process in between: the largest memory of a child begins at that of its parent
LAUNCH = """
import json, os, sys, time
started = time.monotonic()
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
seconds = time.monotonic() - started
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]),
      file=sys.stderr)
"""
TRAIN = """
import sys
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from adnext_plugin.networks.families.liu import polimi_cnn

folder, size, threads, steps, batch = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
rows = [line.split(",") for line in open(f"{folder}/table.csv").read().split()[1:]]
volumes = [torch.from_numpy(np.load(f"{folder}/{row[0]}").astype(np.float32)) for row in rows]
labels = torch.tensor(["AB".index(row[1]) for row in rows])
train = [i for i, row in enumerate(rows) if row[2] == "train"]
network = polimi_cnn(1, 2, (size,) * 3)
network.load_state_dict(torch.load(f"{folder}/start.pth"))
optimizer = torch.optim.Adam(network.parameters(), lr=1.8e-3)
step = 0
while step < steps:
    for start in range(0, len(train), batch):
        part = train[start : start + batch]
        optimizer.zero_grad()
        loss = cross_entropy(network(torch.stack([volumes[i] for i in part])), labels[part])
        loss.backward()
        optimizer.step()
        step += 1
        print("step", step, "loss", loss.item(), flush=True)
        if step == steps:
            break
    network.eval()
    with torch.no_grad():
        for i in set(range(len(rows))) - set(train):
            network(volumes[i][None])
    network.train()
"""


def main() -> None:
    """Measure both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--build", type=Path, default=Path("deploy/cpp/build"), help="of the C++ programs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--networks", nargs="+", default=["adnext_t", "adnext_b"])
    parser.add_argument("--formats", nargs="+", choices=SUFFIXES, default=list(SUFFIXES))
    arguments = parser.parse_args()
    work, build = arguments.work.absolute(), arguments.build.absolute()
    work.mkdir(parents=True, exist_ok=True)
    load_before = os.getloadavg()[0]
    found = {
        "made_by": provenance(),
        "load_before": round(load_before, 1),
        "training": _training(arguments, work, build),
        "prediction": {name: _prediction(arguments, work, build, name) for name in arguments.networks},
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _scans(work: Path) -> list[Path]:
    folder = work / "phantoms"
    if not (folder / "truth.csv").is_file():
        write_cohort(draw_subjects(PEOPLE, 1.0, 0), folder, processes=1)
    return sorted(folder.glob("bids/sub-*/ses-01/anat/*.nii.gz"))


def _training(arguments: argparse.Namespace, work: Path, build: Path) -> dict:
    folder = work / "volumes"
    folder.mkdir(exist_ok=True)
    settings = PreprocessingSettings(spacing_mm=(SPACING_MM,) * 3, input_size_voxels=(SIZE,) * 3)
    lines = ["file,class,part"]
    for index, scan in enumerate(_scans(work)):
        np.save(folder / f"{index}.npy", prepare(read_volume(scan), settings).image_czyx)
        lines.append(f"{index}.npy,{'AB'[index % 2]},{'train' if index < PEOPLE - 2 else 'validation'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    torch.manual_seed(0)
    torch.save(dict(polimi_cnn(1, 2, (SIZE,) * 3).state_dict()), folder / "start.pth")
    steps, batch = str(arguments.steps), str(arguments.batch)

    def python(threads: int) -> list[str]:
        return [sys.executable, "-c", TRAIN, str(folder), str(SIZE), str(threads), steps, batch]

    def cpp(threads: int) -> list[str]:
        words = ["--classes", "A,B", "--as-listed", "--batch", batch, "--steps", steps, "--threads", str(threads)]
        weights = ["--weights", str(folder / "start.pth"), "-o", str(folder / "end.safetensors")]
        return [str(build / "adnext_train_cpp"), str(folder / "table.csv"), *words, *weights]

    rows = _turns({"Python": python, "C++": cpp}, arguments)
    losses = {name: _losses(name, row.pop("said")) for row in rows for name in [row["arm"]]}
    apart = float(np.abs(np.subtract(losses["Python"], losses["C++"])).max())
    return {"steps": arguments.steps, "batch": arguments.batch, "losses_differ_by": apart, "rows": rows}


def _losses(arm: str, said: str) -> list[float]:
    found = [float(line.split()[3]) for line in said.splitlines() if line.startswith("step")]
    assert found, f"{arm} said no loss: {said}"
    return found


def _prediction(arguments: argparse.Namespace, work: Path, build: Path, name: str) -> dict:
    """From the file of one scan to its answer; programs are written where they are not there yet."""
    model = fresh_model(name, 128)
    programs = {to: work / f"{name}{SUFFIXES[to]}" for to in arguments.formats}
    written = {}
    for to, path in programs.items():
        if not path.is_file():
            started = time.monotonic()
            write_program(model, to, path)
            written[to] = round(time.monotonic() - started, 1)
    bundle = work / f"{name}.zip"
    if not bundle.is_file():
        write_bundle(model, bundle)
        _measure(["adnext_install", str(bundle), "--name", name, "--overwrite"], 1, work)
    scan = _scans(work)[0]
    stored = _stored(scan, model.description, work / f"Dataset001_{name}")
    arms = {"eager": lambda threads: _predict(name, scan, work)}
    for to, path in programs.items():
        arms[to] = lambda threads, to=to, path=path: _predict(str(path), scan, work, "--backend", to)
        arms[f"{to}, stored"] = lambda threads, to=to, path=path: _predict(str(path), stored, work, "--backend", to)
        if to != "onnx":
            arms[f"C++, {to}"] = lambda threads, path=path: [
                *(str(build / "adnext_predict_cpp"), str(path), str(scan)),
                *("--threads", str(threads), "-o", str(work / "cpp.csv")),
            ]
    rows = _turns(arms, arguments)
    for row in rows:
        del row["said"]
    return {"seconds_to_write": written, "rows": rows}


def _stored(scan: Path, description: ModelDescription, dataset: Path) -> Path:
    """The scan as a preprocessed dataset holds it."""
    plan, name = description.plan, f"{description.plans_name}_{description.configuration}"
    folder = dataset / name
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {"data_identifier": name, "spacing": description.stored_spacing_mm, BLOCK: to_json(plan)}
    plans = {"configurations": {description.configuration: configuration}}
    plans_file(dataset, description.plans_name).write_text(json.dumps(plans))
    prepare_case(CaseJob(case="stored", image=scan, folder=folder, settings=plan.preprocessing))
    return volume_file(folder, "stored")


def _predict(model: str, scan: Path, work: Path, *words: str) -> list[str]:
    return ["adnext_predict", "-i", str(scan), "-o", str(work / "answers"), "-m", model, *words, "-np", "1"]


def _turns(arms: dict, arguments: argparse.Namespace) -> list[dict]:
    """The best of all repeats of each arm and number of threads."""
    best: dict[tuple[str, int], dict] = {}
    for _ in range(arguments.repeats):
        for threads in arguments.threads:
            for arm, words in arms.items():
                row = {"arm": arm, "threads": threads, **_measure(words(threads), threads, arguments.work)}
                before = best.get((arm, threads))
                if before is None or row["seconds"] < before["seconds"]:
                    best[arm, threads] = row
                print(json.dumps({key: value for key, value in row.items() if key != "said"}), flush=True)
    return list(best.values())


def _measure(words: list[str], threads: int, work: Path) -> dict:
    command = Path(sys.executable).parent / words[0]
    words = [str(command), *words[1:]] if command.is_file() else words
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "nnUNet_results": str(work)}
    with (work / "said.txt").open("w") as said:
        launch = [sys.executable, "-S", "-c", LAUNCH, *words]
        done = subprocess.run(launch, stdout=said, stderr=subprocess.PIPE, env=environment, text=True, check=True)
    text = (work / "said.txt").read_text()
    code, seconds, processor_seconds, mebibytes = json.loads(done.stderr.splitlines()[-1])
    if code != 0:
        sys.exit(f"failed: {' '.join(words)}\n{text}{done.stderr}")
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor_seconds, 2),
        "mebibytes": round(mebibytes),
        "said": text,
    }


if __name__ == "__main__":
    main()
