"""`adnext_quality`: look at all prepared cases, and list those that stand out."""

from argparse import ArgumentParser
from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.prepared_datasets import add_datasets_arguments, look_at_each
from adnext_plugin.cli.runs import add_processes_argument
from adnext_plugin.workflows.quality import Request, look_at_cases


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_quality", "Contact sheet and table of prepared scans; suspicious ones are listed.")
    add_datasets_arguments(parser)
    parser.add_argument("--top", type=int, default=20, help="cases to list on the terminal at most (default: 20)")
    add_processes_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    options = {"plans": arguments.plans, "top": arguments.top, "processes": arguments.processes}
    requests = [Request(dataset=dataset, **options) for dataset in arguments.dataset]
    return look_at_each(requests, lambda request: look_at_cases(request, print))
