"""`adnext_list`: what can be named, in one line each, and which package brought it."""

import inspect
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.errors import AdnextWarning, RegistryError, UnknownNameError, nearest_names
from adnext_plugin.registry import GROUPS, brought_by, kind_of, load, registered_names

KINDS = {group.rpartition(".")[2]: group for group in GROUPS}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    kind: str
    pattern: str


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_list", "List what can be named, with what it is and the package that brought it.")
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="part of the name, or with * and ? all of it"
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = Request(**vars(build_parser().parse_args(argv)))
    group = KINDS[request.kind]
    rows = [row for name in _matching(group, request.pattern) if (row := _row(group, name))]
    if not rows:
        print(f"there are no {request.kind}")
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, what, package in rows:
        print(f"{name:{widths[0]}}  {what:{widths[1]}}  {package}")
    return 0


def _matching(group: str, pattern: str) -> list[str]:
    known = registered_names(group)
    whole = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [name for name in known if fnmatch(name.lower(), whole.lower())]
    if not found and known:
        raise UnknownNameError(f"no {kind_of(group)} matches {pattern!r}{nearest_names(pattern, known)}")
    return found


def _row(group: str, name: str) -> tuple[str, str, str] | None:
    """Name, what it is and whose; None, with a warning, for what cannot be used."""
    try:
        return name, what_it_is(load(group, name)), ", ".join(brought_by(group, name))
    except RegistryError as error:
        warnings.warn(str(error), AdnextWarning, stacklevel=2)
        return None


def what_it_is(found: Any) -> str:
    """The title of a record, or else the first line of a docstring; a partial function's is that of its module."""
    title = getattr(found, "title", None)
    if isinstance(title, str):
        return title
    documented = inspect.getmodule(found.func) if isinstance(found, partial) else found
    return (inspect.getdoc(documented) or "").partition("\n")[0]
