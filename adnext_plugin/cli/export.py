"""`adnext_export`: a trained model as one file, to share or as a program, without anything of any one person in it."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument
from adnext_plugin.deployment.kinds import WeightsKind
from adnext_plugin.workflows.export import SUFFIXES, Request, export


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_export", "Write a trained model as one file: a bundle to share, or a program.")
    parser.add_argument(
        "run",
        type=Path,
        help="folder of a cross-validated run, TRAINER__PLANS__CONFIGURATION; or folder or name of an installed bundle",
    )
    parser.add_argument("--output", "-o", type=Path, help="the file, e.g. model.zip or model.onnx")
    parser.add_argument(
        "--push", metavar="OWNER/REPO", help="put the bundle on the Hugging Face hub, privately; needs the extra hub"
    )
    parser.add_argument("--public", dest="is_public", action="store_true", help="with --push: for everybody to see")
    parser.add_argument(
        "--format",
        choices=SUFFIXES,
        help="zip: a bundle of tensors and JSON, no code; onnx (.onnx), torchscript (.pt), aoti (.pt2): "
        "all networks as one program, compared with the model before it is kept (default: by the file's ending)",
    )
    parser.add_argument(
        "--weights",
        choices=get_args(WeightsKind),
        default="float32",
        help="int8: rounded to whole numbers in a file of ONNX a quarter as large, whose answers differ a little "
        "(default: %(default)s)",
    )
    parser.add_argument("--folds", "-f", nargs="+", help="networks to write (default: all there are)")
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
    arguments = vars(build_parser().parse_args(argv))
    folds = arguments.pop("folds")
    export(Request(**arguments, folds=tuple(folds) if folds else None), print)
    return 0
