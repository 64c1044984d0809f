"""`adnext_regions`: volumes of grey matter and fluid in regions of the brain."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.prepared_datasets import add_datasets_arguments, look_at_each
from adnext_plugin.cli.runs import add_processes_argument
from adnext_plugin.workflows.regions import Request, measure_all


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_regions", "Grey matter and fluid in regions of prepared T1-weighted scans.")
    add_datasets_arguments(parser)
    parser.add_argument(
        "--atlas", type=Path, metavar="FILE", help="NIfTI file of whole numbers in MNI152 space (default: built in)"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="with --atlas: a table with the columns label and name"
    )
    parser.add_argument(
        "--warp", action="store_true", help="align by a warp after the affine way; volumes are the scan's all the same"
    )
    add_processes_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    options = {name: getattr(arguments, name) for name in ("plans", "atlas", "labels", "warp", "processes")}
    requests = [Request(dataset=dataset, **options) for dataset in arguments.dataset]
    return look_at_each(requests, lambda request: measure_all(request, print))
