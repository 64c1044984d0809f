"""`adnext_quality`: look at all prepared cases, and list those that stand out."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.environment import usable_cpus
from adnext_plugin.paths import PLANS_NAME, dataset_folder_name, preprocessed_dir
from adnext_plugin.workflows.quality import Request, look_at_cases


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_quality", "Contact sheet and table of prepared scans; suspicious ones are listed.")
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="name of the plans file")
    parser.add_argument("--top", type=int, default=20, help="cases to list on the terminal at most (default: 20)")
    parser.add_argument("--processes", "-np", type=int, default=min(8, usable_cpus()), help="default: %(default)s")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    options = {"plans": arguments.plans, "top": arguments.top, "processes": arguments.processes}
    requests = [Request(dataset=dataset, **options) for dataset in arguments.dataset]
    for dataset in arguments.dataset:  # a wrong name is to be found before the first dataset is measured
        dataset_folder_name(dataset, [preprocessed_dir()])
    return max(_report(request) for request in requests)


def _report(request: Request) -> int:
    result = look_at_cases(request, print)
    for case, reason in result.failed.items():
        print(f"error: {case}: {reason}", file=sys.stderr)
    if result.sheet is not None:
        print(f"Look at {result.sheet}; the numbers are in {result.table_file}")
    return 2 if result.failed or result.sheet is None else 0
