"""`adnext_report`: one self-contained page on an evaluated run."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_run_arguments, trained
from adnext_plugin.workflows.report import Request, report
from adnext_plugin.workflows.report_segmentation import report_segmentation
from adnext_plugin.workflows.segmentation_datasets import has_segmentations


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_report", "Write one self-contained page on a run that adnext_evaluate has scored.")
    add_run_arguments(parser)
    parser.add_argument(
        "--comparison", type=Path, metavar="FILE", help="what adnext_compare --output wrote, to be shown as well"
    )
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: crossval_results/report.html")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = Request(**vars(trained(build_parser().parse_args(argv))))
    write = report_segmentation if has_segmentations(request.dataset_folder) else report
    result = write(request)
    print(f"The report is in {result.page}")
    return 0
