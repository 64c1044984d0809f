"""`adnext_ext_path`: print the folder that makes stock nnU-Net commands find our trainers."""

from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.paths import hook_dir


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    new_parser(
        "adnext_ext_path",
        'Print the folder to put into nnU-Net\'s search path: export nnUNet_extTrainer="$(adnext_ext_path)"',
    ).parse_args(argv)
    print(hook_dir())
    return 0
