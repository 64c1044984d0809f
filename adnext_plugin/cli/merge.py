"""`adnext_merge`: several preprocessed datasets become one, without copying."""

from argparse import ArgumentParser
from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_plans_argument
from adnext_plugin.workflows.merge import Request, merge


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
    request = Request(
        number=arguments.number, name=arguments.name, datasets=tuple(arguments.datasets), plans=arguments.plans
    )
    merge(request, print)
    return 0
