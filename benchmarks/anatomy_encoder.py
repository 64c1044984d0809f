"""An encoder that knows the anatomy of the medial temporal lobes, for a task of AD against normal.

    python benchmarks/anatomy_encoder.py --work DIR [--set epochs=12]

DIR is the folder in which `oasis_leaderboard.py` prepared the task. For each of its folds a network learns age, sex
and the volumes that `adnext_regions` measures, of the people whom that fold trains on and of normal OASIS-1 people
under 60; nobody's diagnosis is told, and nobody whom the fold holds out is seen. Prints where the weights are; "{fold}"
in it stands for the fold. What is finished is not made again.
"""

import argparse
import json
import os
from pathlib import Path

import pandas as pd
from brain_age import first_sessions, task_splits
from oasis_ad import DEFAULT_DATA, SAME_PERSON, TASKS
from oasis_leaderboard import PRESETS
from pipeline import dataset_folder, run_command, set_options, use_folders

from adnext_plugin.paths import run_name

PLANS, TRAINER, DATASET = "MedialTemporal", "ADNeXtProxyTrainer_T_Small", (208, "Anatomy")
VOLUMES = [
    f"{region}_{side}_{tissue}_ml_per_l"
    for region in ("hippocampus", "amygdala", "entorhinal", "parahippocampal")
    for side in ("left", "right")
    for tissue in ("grey", "fluid")
]


def main() -> None:
    """Import, prepare, measure, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_pretrain")
    arguments = parser.parse_args()
    use_folders(arguments.work)
    number, name = DATASET
    prepared = arguments.work / "nnUNet_preprocessed"
    task = prepared / dataset_folder(*TASKS["ad"][:2])
    if not (arguments.work / "nnUNet_raw" / dataset_folder(*DATASET)).is_dir():
        table = arguments.work / f"{name}.csv"
        _people(Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)), task).to_csv(table, index=False)
        columns = ["--regress", "age", "--age-column", "age", "--sex-column", "sex"]
        run_command("adnext_import", str(number), name, "--table", str(table), "--file-column", "file", *columns)
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(PRESETS[PLANS]), "-p", PLANS)
    run_command("adnext_regions", "-d", str(number), "-p", PLANS, accepted=(0, 2))
    splits = task_splits(prepared / dataset_folder(*DATASET), task)
    (prepared / dataset_folder(*DATASET) / "splits_final.json").write_text(json.dumps(splits, indent=1))
    run = arguments.work / "nnUNet_results" / dataset_folder(*DATASET) / run_name(TRAINER, PLANS, "3d_fullres")
    told = set_options([f"numbers={json.dumps(['age', *VOLUMES])}", *arguments.set])
    for fold in range(len(splits) - 1):
        if not (run / f"fold_{fold}" / "checkpoint_final.pth").is_file():
            words = [str(number), "3d_fullres", str(fold), "-tr", TRAINER, "-p", PLANS, "--continue"]
            run_command("adnext_pretrain", *words, *told)
    print(json.dumps({"weights": str(run / "fold_{fold}" / "checkpoint_final.pth")}))


def _people(data: Path, task: Path) -> pd.DataFrame:
    """Everybody of the task, and normal people under 60."""
    wanted = set(pd.read_csv(task / "subjects.csv")["subject_id"])
    oasis = first_sessions(data).rename(columns={"Age": "age", "M/F": "sex"})
    young = ~(oasis["CDR"] > 0) & (oasis["age"] < 60) & (oasis["subject_id"] != SAME_PERSON)
    return oasis.loc[young | oasis["subject_id"].isin(wanted), ["subject_id", "age", "sex", "file"]]


if __name__ == "__main__":
    main()
