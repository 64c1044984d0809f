"""Kill training with SIGKILL at random moments, resume with `--c`, and compare the weights with an uninterrupted run.

    python benchmarks/kill_and_resume.py --work DIR --kills 20

Runs `nnUNetv2_train` on the demo cohort (`adnext_demo` must have been run in DIR/adnext_demo). Prints JSON and writes
it to benchmarks/results/kill_and_resume.json: the hash of the final weights of both runs, and at which epoch each kill
came.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from adnext_plugin.paths import hook_dir
from adnext_plugin.training.provenance import provenance

DATASET, TRAINER = "Dataset999_Demo", "ADNeXtTrainer_T"
STARTUP_SECONDS = 15
RESULT = Path(__file__).parent / "results" / "kill_and_resume.json"


def main() -> None:
    """Run the experiment and exit with 1 if the weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that holds adnext_demo's output")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    arguments = parser.parse_args()
    demo = arguments.work.absolute() / "adnext_demo"
    settings = {"epochs": arguments.epochs, "learning_rate": 1e-3, "augmentation": "anatomical"}
    environment = {
        **os.environ,
        "nnUNet_raw": str(demo / "nnUNet_raw"),
        "nnUNet_preprocessed": str(demo / "nnUNet_preprocessed"),
        "nnUNet_extTrainer": str(hook_dir()),
        "ADNEXT_SETTINGS": json.dumps(settings),
    }
    hashes, kills = {}, []
    for name in ("uninterrupted", "killed"):
        results = arguments.work.absolute() / f"nnUNet_results_{name}"
        fold = results / DATASET / f"{TRAINER}__ADNeXtPlans__3d_fullres" / "fold_0"
        environment["nnUNet_results"] = str(results)
        if name == "killed":
            kills = _kill_repeatedly(environment, fold, arguments)
        if not (fold / "checkpoint_final.pth").is_file():
            _train(environment, resume=name == "killed").wait()
        hashes[name] = weights_hash(fold / "checkpoint_final.pth")
    report = {
        "equal": hashes["uninterrupted"] == hashes["killed"],
        "sha256_of_final_weights": hashes,
        "epochs": arguments.epochs,
        "kills": kills,
        "made_by": provenance(),
    }
    print(json.dumps(report, indent=1))
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(not report["equal"])


def _train(environment: dict[str, str], *, resume: bool) -> subprocess.Popen:
    command = [str(Path(sys.executable).parent / "nnUNetv2_train"), DATASET, "3d_fullres", "0", "-tr", TRAINER]
    command += ["-p", "ADNeXtPlans", "-device", "cpu", *(["--c"] if resume else [])]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def _kill_repeatedly(environment: dict[str, str], fold: Path, arguments: argparse.Namespace) -> list[dict]:
    draw = random.Random(arguments.seed)
    kills = []
    while len(kills) < arguments.kills:
        before = _epochs_done(fold)
        process = _train(environment, resume=True)
        if draw.random() < 0.3:
            time.sleep(draw.uniform(0, STARTUP_SECONDS))  # at any moment since the start
        else:
            while _epochs_done(fold) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 2))  # while epochs and checkpoints come and go
        if process.poll() is not None:
            sys.exit(f"training ended after {len(kills)} kills; give more --epochs")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills.append({"kill": len(kills) + 1, "epochs_done": _epochs_done(fold)})
        print(json.dumps(kills[-1]), flush=True)
    return kills


def _epochs_done(fold: Path) -> int:
    logs = sorted(fold.glob("training_log_*.txt"))
    return sum(line.count("ETA") for log in logs for line in log.read_text().splitlines())


def weights_hash(checkpoint: Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(torch.load(checkpoint, weights_only=True)["network_weights"].items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
