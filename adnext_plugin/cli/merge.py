"""`adnext_merge`: several preprocessed datasets become one, without copying."""

import re
from argparse import ArgumentParser
from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_plans_argument
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import dataset_folder_name, preprocessed_dir


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_merge", "Make one preprocessed dataset of several; volumes are linked, not copied.")
    parser.add_argument("number", type=int, help="number of the new dataset, 1 to 999")
    parser.add_argument("name", help="name of the new dataset, letters and digits")
    parser.add_argument("datasets", nargs="+", help="numbers or names of preprocessed datasets, two or more")
    add_plans_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if not 1 <= arguments.number <= 999:
        raise SettingsError(f"the dataset number must be 1 to 999, got {arguments.number}")
    if not re.fullmatch(r"[A-Za-z0-9]+", arguments.name):
        raise SettingsError(f"the dataset name may have letters and digits only, got {arguments.name!r}")
    folder = preprocessed_dir()
    names = list(dict.fromkeys(dataset_folder_name(dataset, [folder]) for dataset in arguments.datasets))
    if len(names) < 2:
        raise SettingsError(f"give at least two different datasets to merge, got {', '.join(names)}")

    from adnext_plugin.preprocessing.merge import merge_datasets
    from adnext_plugin.splits.folds import ensure_splits

    target = folder / f"Dataset{arguments.number:03d}_{arguments.name}"
    task, subjects = merge_datasets([folder / name for name in names], target, arguments.plans)
    ensure_splits(target, subjects, task)
    print(f"{len(subjects)} scans of {subjects['subject_id'].nunique()} subjects are in {target}")
    if task.kind == "unlabelled":
        print("their tasks differ or they have none: the merged dataset is for pre-training only")
    return 0
