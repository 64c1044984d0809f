"""Every objective on real scans: it trains, is killed and resumes to the bit, hands its encoder on, and meets guesses.

    python benchmarks/objectives_on_scans.py --work DIR

32 people of IXI and OASIS-1 as 64³ voxels of 3.2 mm, two epochs. Each objective is trained once without a pause, and
once killed with SIGKILL after its first epoch and run again; final weights are compared by their hash. A classifier
then takes the encoder over. Figures of people held out stand beside those of guesses, which two epochs do not beat
(benchmarks/pretraining_study.py trains for longer). The scans are those described in the data's own README;
ADNEXT_TEST_DATA names their folder. Writes benchmarks/results/objectives_on_scans.json.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import warm
from kill_and_resume import weights_hash
from oasis_ad import DEFAULT_DATA, RESULTS
from pipeline import dataset_folder, use_folders
from pretraining_study import COLUMNS, PRETRAINER, WHOLE_PATCHES_PLANS, people_of, plan_whole_patches, write_plans

from adnext_plugin.files import read_json, write_json
from adnext_plugin.networks.build import build_network
from adnext_plugin.paths import run_name
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import OBJECTIVES, registered_names
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.weights import load_encoder

DATASET = (313, "FewScans")
SIZE = (64, 64, 64)
ADNEXT = {"name": "adnext_t", "options": {"init": "fan_in"}}
NETWORKS = {
    "amaes": {"name": "unet_b"},
    "proxy": {"name": "tiny_densenet"},
    "simmim": {"name": "vit_small_mim"},
    "mae": {"name": "vit_small_mim"},
    "swinunetr": {"name": "swin_unetr_48"},
}
# a run of fcmae measures how it had best convolve, and two runs may find different ways
STATED = {"sparse_convolution": ["halo", "halo", "scatter", "scatter"]}
OPTIONS = {
    "amaes": {"patch_voxels": [32, 32, 32]},  # to keep it short
    "fcmae": STATED,
    "hybrid": {"masked_options": STATED},
}
SETTINGS = {"epochs": 2, "warmup_epochs": 0, "batch_size": 4, "learning_rate": 1e-3}


def main() -> None:
    """Run all, and exit with 1 if an objective does not resume to the bit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--objectives", nargs="+", default=registered_names(OBJECTIVES))
    parser.add_argument("--result", type=Path, default=RESULTS / "objectives_on_scans.json")
    arguments = parser.parse_args()
    warm.begin_again_with_one_thread()
    use_folders(arguments.work)
    _prepare(arguments.work)
    warm.warm_up(["adnext_plugin.cli.pretrain", "adnext_plugin.trainers.self_supervised"])
    found = read_json(arguments.result)["objectives"] if arguments.result.is_file() else {}
    for name in arguments.objectives:
        found[name] = _tried(name, arguments.work)
        print(name, json.dumps(found[name]), flush=True)
        write_json({"made_by": provenance(), "objectives": found}, arguments.result)
    sys.exit(not all(one["resumes_to_the_bit"] for one in found.values()))


def _prepare(work: Path) -> None:
    plans = work / "nnUNet_preprocessed" / dataset_folder(*DATASET) / f"{WHOLE_PATCHES_PLANS}.json"
    if not plans.is_file():
        people = people_of(Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)))
        people = people[people["in_corpus"] & people["age"].notna()]
        few = people.groupby("site").head(16)
        plan_whole_patches(DATASET, few, work, [*COLUMNS, "--unlabelled"])


def _tried(name: str, work: Path) -> dict[str, Any]:
    network = NETWORKS.get(name, ADNEXT)
    pretraining = {"objective": name, "options": OPTIONS.get(name, {}), **SETTINGS}
    write_plans(DATASET, WHOLE_PATCHES_PLANS, f"Plans_{name}", network, pretraining)
    command = ["pretrain", str(DATASET[0]), "3d_fullres", "0", "-tr", PRETRAINER, "-p", f"Plans_{name}", "-device"]
    run = Path(dataset_folder(*DATASET)) / run_name(PRETRAINER, f"Plans_{name}", "3d_fullres") / "fold_0"
    hashes, seconds = {}, {}
    for way in ("uninterrupted", "killed"):
        home, log = work / way, work / f"{name}_{way}.txt"
        home.mkdir(exist_ok=True)
        log.unlink(missing_ok=True)
        shutil.rmtree((home / "nnUNet_results" / run).parent, ignore_errors=True)
        for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
            if not (home / folder).exists():
                (home / folder).symlink_to(work / folder)
        if way == "killed":
            _kill_after_first_epoch([*command, "cpu"], home, log)
        ended = warm.run([*command, "cpu"], home, log)
        if ended.code:
            sys.exit(f"{name}, {way}: exit code {ended.code}\n{ended.text[-2000:]}")
        final = home / "nnUNet_results" / run / "checkpoint_final.pth"
        hashes[way], seconds[way] = weights_hash(final), ended.seconds
    classifier = build_network(NetworkSettings(**network), 1, 2, SIZE)
    summary = read_json(final.parent / "validation" / "summary.json")
    return {
        "network": network["name"],
        "resumes_to_the_bit": hashes["uninterrupted"] == hashes["killed"],
        "seconds": round(seconds["uninterrupted"], 1),
        "handed_on": str(load_encoder(classifier, final)),
        "held_out": {key: value for key, value in summary.items() if isinstance(value, dict)},
    }


def _kill_after_first_epoch(command: list[str], home: Path, log: Path) -> None:
    begun = time.monotonic()
    child = warm.start(command, home, log)
    while "epoch 1/2" not in (log.read_text() if log.is_file() else ""):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            sys.exit(f"{command} ended before it was killed\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    warm.end(child, log, begun, was_killed=True)


if __name__ == "__main__":
    main()
