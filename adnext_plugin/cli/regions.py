"""`adnext_regions`: volumes of grey matter and fluid in regions of the brain."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.environment import usable_cpus
from adnext_plugin.paths import PLANS_NAME, dataset_folder_name, preprocessed_dir
from adnext_plugin.workflows.regions import Request, measure_all


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_regions", "Grey matter and fluid in regions of prepared T1-weighted scans.")
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="name of the plans file")
    parser.add_argument(
        "--atlas", type=Path, metavar="FILE", help="NIfTI file of whole numbers in MNI152 space (default: built in)"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="with --atlas: a table with the columns label and name"
    )
    parser.add_argument("--processes", "-np", type=int, default=min(8, usable_cpus()), help="default: %(default)s")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    options = {name: getattr(arguments, name) for name in ("plans", "atlas", "labels", "processes")}
    requests = [Request(dataset=dataset, **options) for dataset in arguments.dataset]
    for dataset in arguments.dataset:  # a wrong name is to be found before the first dataset is measured
        dataset_folder_name(dataset, [preprocessed_dir()])
    return max(_measure(request) for request in requests)


def _measure(request: Request) -> int:
    result = measure_all(request, print)
    for case, reason in result.failed.items():
        print(f"error: {case}: {reason}", file=sys.stderr)
    if result.table_file is not None:
        print(f"Look at {result.sheet}; the numbers are in {result.table_file}")
    return 2 if result.failed or result.table_file is None else 0
