"""`adnext`: every command under one name, `adnext train ...` for `adnext_train ...`."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.errors import UnknownNameError, nearest_names

PREFIX = "adnext_"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first, with what follows."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if words and not words[0].startswith("-"):
        name, *rest = words
        if name not in known:
            raise UnknownNameError(f"no command {name!r}{nearest_names(name, known)}")
        status: int = known[name].load()(rest)
        return status
    listed = "\n".join(f"  {name:22} {_purpose(entry)}" for name, entry in known.items())
    parser = new_parser("adnext", f"Classify 3D brain scans inside nnU-Net v2.\n\ncommands:\n{listed}")
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.usage = "adnext COMMAND ..."
    parser.epilog = "adnext COMMAND --help says more of each; adnext_COMMAND is the same command."
    parser.parse_args(words or ["--help"])
    return 0


def commands() -> dict[str, EntryPoint]:
    """Ours, by the name without its beginning."""
    ours = (entry for entry in entry_points(group="console_scripts") if entry.name.startswith(PREFIX))
    found = {entry.name.removeprefix(PREFIX): entry for entry in ours if entry.module.startswith("adnext_plugin.")}
    return dict(sorted(found.items()))


def _purpose(entry: EntryPoint) -> str:
    """What follows the command's name in the first line of its module."""
    return (import_module(entry.module).__doc__ or "").partition("\n")[0].partition(": ")[2]
