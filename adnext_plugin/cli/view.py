"""`adnext_view`: look at scans in a browser, with masks, maps and what was predicted."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.workflows.view import Request, view


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_view",
        "Show scans in a browser, with what lies over them and what was predicted. The page is served on this machine "
        "alone, and asks no other for anything.",
    )
    parser.add_argument(
        "place",
        type=Path,
        metavar="RUN_OR_SCAN",
        help="a scan; the folder of an evaluated run, TRAINER__PLANS__CONFIGURATION; or a folder of adnext_predict",
    )
    parser.add_argument("--mask", type=Path, action="append", default=[], help="over a scan; may be repeated")
    parser.add_argument("--map", type=Path, action="append", default=[], help="over a scan; may be repeated")
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="some of a run (default: all)")
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE.html", help="write one file with everything in it instead"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    parser.add_argument("--port", type=int, default=0, help="to serve at (default: any that is free)")
    parser.add_argument(
        "--no-browser", dest="open_browser", action="store_false", help="only say the address, and open nothing"
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = Request(
        place=arguments.place,
        masks=tuple(arguments.mask),
        maps=tuple(arguments.map),
        cases=tuple(arguments.cases),
        output=arguments.output,
        overwrite=arguments.overwrite,
        port=arguments.port,
        open_browser=arguments.open_browser,
    )
    view(request, print)
    return 0
