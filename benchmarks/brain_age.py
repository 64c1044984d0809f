"""Weights that know about age: a regression on people who are in no task of AD against normal.

    python benchmarks/brain_age.py --work DIR --set epochs=60

Learns from the normal OASIS-1 people under 60 and from everyone of IXI whose age is known (20 to 82 years), at
48×56×48 voxels of 3.2 mm, and prints where the weights are. The scans are those described in the data's own README;
ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import os
from pathlib import Path

import pandas as pd
from oasis_ad import DEFAULT_DATA, SAME_PERSON
from pipeline import run_command, run_of, set_options, use_folders

PRESET = Path(__file__).parent / "oasis_coarse_plan.json"
TRAINER = "ADNeXtTrainer_T_Small"
DATASET = "Dataset206_BrainAge"


def main() -> None:
    """Import, prepare, train on everybody."""
    arguments = _parse()
    use_folders(arguments.work)
    if not (arguments.work / "nnUNet_raw" / DATASET).is_dir():
        table = arguments.work / "brain_age.csv"
        corpus(Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))).to_csv(table, index=False)
        source = ["--table", str(table), "--file-column", "file", "--regress", "age"]
        run_command("adnext_import", "206", "BrainAge", *source)
    run_command("adnext_plan_and_preprocess", "-d", "206", "--preset", str(PRESET))
    run_command("adnext_train", "206", "3d_fullres", "all", "-tr", TRAINER, *set_options(arguments.set))
    run = arguments.work / "nnUNet_results" / DATASET / run_of(TRAINER) / "fold_all"
    print(json.dumps({"weights": str(run / "checkpoint_final.pth")}))


def corpus(data: Path) -> pd.DataFrame:
    """subject_id, age and file of OASIS-1's first sessions of normal people under 60, and of IXI."""
    oasis = pd.read_csv(data / "oasis1" / "oasis1.csv")
    normal = ~(oasis["CDR"] > 0) & (oasis["Age"] < 60) & (oasis["subject_id"] != SAME_PERSON)
    oasis = oasis[normal & (oasis["session"] == "MR1")]
    ixi = pd.read_csv(data / "ixi" / "ixi.csv").dropna(subset=["Age"])
    files = [data / "oasis1" / "images" / f"{ID}.nii.gz" for ID in oasis["ID"]]
    files += [data / "ixi" / "brain" / f"{subject}_T1w.nii.gz" for subject in ixi["subject_id"]]
    people = pd.concat([oasis, ixi]).rename(columns={"Age": "age"})[["subject_id", "age"]]
    return people.assign(file=[str(path) for path in files])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_train")
    return parser.parse_args()


if __name__ == "__main__":
    main()
