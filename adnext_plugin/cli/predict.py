"""`adnext_predict`: a trained model on new scans, with warnings where they are unlike those it was trained on."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.image_options import add_bids_arguments, add_channel_argument
from adnext_plugin.cli.runs import add_device_argument, add_processes_argument, read_settings
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.explanation_files import FILMS
from adnext_plugin.workflows.predict import Backend, Explain, Request, predict

COLUMNS = ("file", "subject", "session", "age", "sex", "site")


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_predict", "Predict scans with all networks of a trained model together.")
    parser.add_argument(
        "--input",
        "-i",
        required=True,
        help="a NIfTI file; a folder of them, searched with the folders in it (several images of a scan end with "
        "_0000, _0001); a CSV or TSV table; a BIDS tree; a raw "
        "or preprocessed dataset, the latter also by its number",
    )
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder for predictions.csv and .json")
    parser.add_argument(
        "--bids-derivatives",
        type=Path,
        metavar="DIR",
        help="also write brain masks and answers with sidecars there, as a BIDS derivative",
    )
    parser.add_argument(
        "--model",
        "-m",
        type=Path,
        required=True,
        help="folder of a run, TRAINER__PLANS__CONFIGURATION; folder or name of an installed bundle; builtin:NAME, a "
        "model that comes with the package (adnext_weights); or a program of adnext_export (.onnx, .pt, .pt2)",
    )
    parser.add_argument(
        "--backend",
        choices=get_args(Backend),
        help="what runs the networks (default: eager for a run or a bundle, else a program's own); onnx starts "
        "fastest; aoti must be asked for, since its file holds machine code",
    )
    parser.add_argument("--folds", "-f", nargs="+", help="networks to use (default: all there are)")
    add_device_argument(parser)
    add_processes_argument(parser, 4)
    maps = parser.add_argument_group("maps of what the networks look at")
    maps.add_argument("--explain", metavar="METHOD", help="also write a map of every scan; adnext_list explanations")
    maps.add_argument("--explain-set", action="append", default=[], metavar="KEY=VALUE", help="settings of the method")
    maps.add_argument("--target", help="class whose evidence is shown (default: the positive one, the last of more)")
    maps.add_argument("--animate", choices=FILMS, help="also write a film of each scan")
    source = parser.add_argument_group("tables and BIDS trees, as in adnext_import")
    source.add_argument("--images", type=Path, help="folder that the table's paths start from (default: the table's)")
    source.add_argument("--image-pattern", help="path of a row's image, e.g. 'images/{ID}.nii.gz'")
    for role in COLUMNS:
        source.add_argument(
            f"--{role}-column", help=f"the table's column of {role}; usual names are found by themselves"
        )
    add_channel_argument(
        source, "where the images are of a model that takes several (default: columns or suffixes of the same names)"
    )
    add_bids_arguments(source)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    result = predict(_request(build_parser().parse_args(argv)), print)
    for case, reason in result.failed:
        print(f"error: {case}: {reason}", file=sys.stderr)
    print(f"{result.predicted} scans predicted, {result.warned} of them with warnings; {len(result.failed)} failed")
    if result.maps is not None:
        print(f"Maps are in {result.maps}. A map alone proves nothing: adnext_explain checks the method on the run")
    if result.derivative is not None:
        print(f"A BIDS derivative is in {result.derivative}")
    print(f"Predictions are in {result.predictions_file}, {result.details_file.name} and {result.page.name}")
    return 2 if result.failed else 0


def _request(arguments: Namespace) -> Request:
    return Request(
        input=arguments.input,
        output=arguments.output,
        model=arguments.model,
        folds=tuple(arguments.folds) if arguments.folds else None,
        device=arguments.device,
        processes=arguments.processes,
        images=arguments.images,
        image_pattern=arguments.image_pattern,
        explain=_explain(arguments),
        columns={role: getattr(arguments, f"{role}_column") for role in COLUMNS},
        bids_suffix=arguments.suffix,
        bids_entities=tuple(arguments.entity),
        channels=tuple(arguments.channel),
        backend=arguments.backend,
        bids_derivatives=arguments.bids_derivatives,
    )


def _explain(arguments: Namespace) -> Explain | None:
    if arguments.explain is None:
        if arguments.explain_set or arguments.target or arguments.animate:
            raise SettingsError("--explain-set, --target and --animate are of maps; give --explain METHOD with them")
        return None
    return Explain(
        method=arguments.explain,
        settings=read_settings(arguments.explain_set, "give KEY=VALUE"),
        target=arguments.target,
        animate=arguments.animate,
    )
