"""Write the prepared cases of a dataset as .npy files, and the table that adnext_train_cpp reads.

python deploy/cpp/prepared_to_npy.py nnUNet_preprocessed/Dataset101_AD ADNeXtPlans_3d_fullres --fold 0 -o volumes/
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from adnext_plugin.cohort import Cohort
from adnext_plugin.stored_volumes import read_case


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder of the preprocessed dataset")
    parser.add_argument("volumes", help="name of the folder of prepared cases in it")
    parser.add_argument("--fold", type=int, default=0, help="whose train and selection parts (default: 0)")
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    cohort = Cohort.open(arguments.dataset)
    parts = cohort.splits[arguments.fold]
    targets = cohort.subjects.set_index("case_id")[cohort.task.column]
    arguments.output.mkdir(parents=True, exist_ok=True)
    with (arguments.output / "table.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "class", "part"])
        for part, name in (("train", "train"), ("selection", "validation")):
            for case in parts[part]:
                image_czyx, _ = read_case(arguments.dataset / arguments.volumes, case)
                np.save(arguments.output / f"{case}.npy", image_czyx)
                table.writerow([f"{case}.npy", targets[case], name])
    print(f"{arguments.output / 'table.csv'}, with --classes {','.join(cohort.task.classes)}")


if __name__ == "__main__":
    main()
