"""`adnext_install`: a model bundle, checked as a file from a stranger, becomes a model for `adnext_predict`."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.paths import BUNDLES
from adnext_plugin.workflows.install import Request, install


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_install", "Check a bundle written by adnext_export and make it ready to predict with.")
    parser.add_argument(
        "bundle", help="the file, e.g. model.zip; or hf://OWNER/REPO[@REVISION], one on the Hugging Face hub"
    )
    parser.add_argument("--into", type=Path, help=f"folder of installed models (default: {BUNDLES} in nnUNet_results)")
    parser.add_argument("--name", help="of the model's folder there (default: that of the file or repository)")
    parser.add_argument("--sha256", help="that the file must have, as adnext_export printed it")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle installed under that name")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    result = install(Request(**vars(build_parser().parse_args(argv))), print)
    print(f"Use it with adnext_predict -m {result.found_by}")
    return 0
