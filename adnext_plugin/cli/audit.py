"""`adnext_audit`: search a dataset, its folds and its runs for whatever would make results too good."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_configuration_argument, add_dataset_argument, add_plans_argument
from adnext_plugin.workflows.audit import Request, audit

if TYPE_CHECKING:
    from adnext_plugin.splits.audit import Check

LINES_SHOWN = 10  # of each kind in a terminal; the file has all


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_audit", "Look for people, images and statistics on both sides of a fold. Exit code 1 if there are any."
    )
    add_dataset_argument(parser)
    parser.add_argument("--trainer", "-tr", help="also audit the checkpoints of this trainer's run")
    add_plans_argument(parser)
    add_configuration_argument(parser)
    parser.add_argument(
        "--pretrained-weights",
        "-pretrained_weights",
        metavar="FILE",
        help="also look for anybody of the dataset among those whom these weights (builtin:NAME, too) have seen; with "
        "'{fold}' in the name, for those whom a fold holds out among those whom its own weights have seen",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="JSON file of all findings, which names people (default: audit.json in the preprocessed dataset)",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    result = audit(Request(**vars(build_parser().parse_args(argv))))
    for check in result.checks:
        _print(check)
    print(f"All findings are in {result.file}")
    return 1 if result.leaks else 0


def _print(check: "Check") -> None:
    print(f"{check.name}: {check.answer}  ({check.looked_at})")
    for lines, mark in ((check.leaks, "!"), (check.remarks, "-")):
        for line in lines[:LINES_SHOWN]:
            print(f"  {mark} {line}")
        if len(lines) > LINES_SHOWN:
            print(f"  {mark} and {len(lines) - LINES_SHOWN} more")
