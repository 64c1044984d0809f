"""`adnext_export`: a trained model as one file to share, without anything of any one person in it."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument
from adnext_plugin.workflows.export import Request, export


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_export", "Write a trained model as one file: tensors and JSON, no code, no person.")
    parser.add_argument("run", type=Path, help="folder of a cross-validated run, TRAINER__PLANS__CONFIGURATION")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the file, e.g. model.zip")
    parser.add_argument(
        "--without-ranges",
        dest="with_ranges",
        action="store_false",
        help="leave out what the training scans look like, for which their preprocessed dataset is needed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    add_device_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    export(Request(**vars(build_parser().parse_args(argv))), print)
    return 0
