"""`adnext_import`: a BIDS tree, a CAPS folder, a LONI download or a table of files becomes a raw nnU-Net dataset."""

from collections.abc import Sequence

from adnext_plugin.cli.command import command
from adnext_plugin.cli.import_options import build_parser, request_of
from adnext_plugin.workflows.import_dataset import import_dataset


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.guess is not None:
        from adnext_plugin.importing.guess import guess

        print(guess(arguments.guess))
        return 0
    result = import_dataset(request_of(arguments), print)
    if not result.is_written:
        print(f"dry run: nothing was written; {result.folder} is where it would go")
    return 0
