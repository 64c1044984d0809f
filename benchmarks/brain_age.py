"""Weights that know about age, for a task of AD against normal.

    python benchmarks/brain_age.py --work DIR --set epochs=60
    python benchmarks/brain_age.py --work DIR --set epochs=60 --folds-of AD_WORK

First a regression on people who are in no such task: the normal OASIS-1 people under 60 and everyone of IXI whose age
is known (20 to 82 years), at 48×56×48 voxels of 3.2 mm. They are young, and the network takes the old for too young.
With --folds-of, the folder in which oasis_ad.py prepared the task, it goes on for each fold with the normal people whom
that fold trains on besides, and is scored on those it holds out. Prints where the weights are; "{fold}" in it stands
for the fold. Networks that are finished are not trained again. The scans are those described in the data's own README;
ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from oasis_ad import DEFAULT_DATA, SAME_PERSON, TASKS
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

PRESET = Path(__file__).parent / "oasis_coarse_plan.json"
TRAINER = "ADNeXtTrainer_T_Small"
EVERYONE, IN_FOLDS = (206, "BrainAge"), (207, "BrainAgeFolds")
GO_ON = ["--set", "epochs=15", "--set", "learning_rate=1e-3"]


def main() -> None:
    """Import, prepare, train."""
    arguments = _parse()
    use_folders(arguments.work)
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))
    prepare(EVERYONE, corpus(data), arguments.work)
    train = ["-tr", TRAINER, *set_options(arguments.set)]
    weights = _trained(arguments.work, EVERYONE, "all", train)
    if arguments.folds_of is not None:
        prepare(IN_FOLDS, pd.concat([corpus(data), _old(data, arguments.folds_of)]), arguments.work)
        folder = arguments.work / "nnUNet_preprocessed" / dataset_folder(*IN_FOLDS)
        splits = task_splits(folder, _task(arguments.folds_of))
        (folder / "splits_final.json").write_text(json.dumps(splits, indent=1))
        for fold in range(len(splits) - 1):
            _trained(arguments.work, IN_FOLDS, str(fold), [*train, *GO_ON, "-pretrained_weights", str(weights)])
        weights = _checkpoint(arguments.work, IN_FOLDS, "{fold}")
    print(json.dumps({"weights": str(weights)}))


def corpus(data: Path, columns: Sequence[str] = ("subject_id", "age", "file")) -> pd.DataFrame:
    """These columns, or also sex, of OASIS-1's first sessions of normal people under 60, and of IXI."""
    oasis = first_sessions(data)
    oasis = oasis[~(oasis["CDR"] > 0) & (oasis["Age"] < 60) & (oasis["subject_id"] != SAME_PERSON)]
    ixi = pd.read_csv(data / "ixi" / "ixi.csv").dropna(subset=["Age"])
    ixi["file"] = [str(data / "ixi" / "brain" / f"{subject}_T1w.nii.gz") for subject in ixi["subject_id"]]
    people = pd.concat([oasis.rename(columns={"M/F": "sex"}), ixi.rename(columns={"Sex": "sex"})])
    return people.rename(columns={"Age": "age"})[list(columns)]


def first_sessions(data: Path) -> pd.DataFrame:
    oasis = pd.read_csv(data / "oasis1" / "oasis1.csv")
    oasis["file"] = [str(data / "oasis1" / "images" / f"{ID}.nii.gz") for ID in oasis["ID"]]
    return oasis[oasis["session"] == "MR1"]


def _old(data: Path, work: Path) -> pd.DataFrame:
    """The normal people of the task."""
    people = pd.read_csv(_task(work) / "subjects.csv")
    normal = people.loc[people["diagnosis"] == "CN", "subject_id"]
    oasis = first_sessions(data).rename(columns={"Age": "age"})
    return oasis.loc[oasis["subject_id"].isin(normal), ["subject_id", "age", "file"]]


def task_splits(folder: Path, task: Path) -> list[dict[str, list[str]]]:
    """The task's folds, with everybody else to train on; a last one, never trained, holds those out, as one must."""
    case_of = pd.read_csv(folder / "subjects.csv").set_index("subject_id")["case_id"]
    person_of = pd.read_csv(task / "subjects.csv").set_index("case_id")["subject_id"]
    old = set(case_of.index) & set(person_of)
    others = sorted(case_of[[person for person in case_of.index if person not in old]])
    splits = []
    for fold in json.loads((task / "splits_final.json").read_text()):
        people = {part: [person_of[case] for case in cases] for part, cases in fold.items()}
        splits.append({part: sorted(case_of[person] for person in people[part] if person in old) for part in people})
        splits[-1]["train"] += others
    cases = sorted(case_of[list(old)])
    return [*splits, {"train": cases[1:], "selection": cases[:1], "val": others}]


def _task(work: Path) -> Path:
    return work / "nnUNet_preprocessed" / dataset_folder(*TASKS["ad"][:2])


def prepare(
    dataset: tuple[int, str], people: pd.DataFrame, work: Path, columns: Sequence[str] = ("--regress", "age")
) -> None:
    """Import people, a row per scan with its file, and prepare them on the coarse grid.

    Args:
        dataset: number and name.
        people: the table.
        work: folder with nnU-Net's folders.
        columns: options of `adnext_import` that say what is in the table's columns.
    """
    number, name = dataset
    if not (work / "nnUNet_raw" / dataset_folder(*dataset)).is_dir():
        table = work / f"{name}.csv"
        people.to_csv(table, index=False)
        run_command("adnext_import", str(number), name, "--table", str(table), "--file-column", "file", *columns)
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(PRESET))


def _trained(work: Path, dataset: tuple[int, str], fold: str, options: list[str]) -> Path:
    weights = _checkpoint(work, dataset, fold)
    if not weights.is_file():
        run_command("adnext_train", str(dataset[0]), "3d_fullres", fold, *options)
    return weights


def _checkpoint(work: Path, dataset: tuple[int, str], fold: str) -> Path:
    return (
        work / "nnUNet_results" / dataset_folder(*dataset) / run_of(TRAINER) / f"fold_{fold}" / "checkpoint_final.pth"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_train")
    parser.add_argument("--folds-of", type=lambda text: Path(text).absolute(), metavar="AD_WORK")
    return parser.parse_args()


if __name__ == "__main__":
    main()
