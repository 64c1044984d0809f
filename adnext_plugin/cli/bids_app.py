"""`adnext_bids_app`: a trained model as a BIDS App, the entry point of the container."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.image_options import add_bids_arguments, add_channel_argument
from adnext_plugin.cli.runs import add_device_argument, add_processes_argument
from adnext_plugin.workflows.bids_app import Level, Request, run_bids_app
from adnext_plugin.workflows.predict import Backend


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_bids_app", "Predict the people of a BIDS dataset with a trained model.")
    parser.add_argument("bids_dir", type=Path, help="root of the dataset")
    parser.add_argument("output_dir", type=Path, help="folder of the derivative")
    parser.add_argument("level", choices=get_args(Level), help="participant: predict; group: join all into one table")
    parser.add_argument(
        "--model",
        "-m",
        type=Path,
        required=True,
        help="as adnext_predict -m takes it, for example /model/ad_model.onnx",
    )
    parser.add_argument(
        "--participant-label", "--participant_label", nargs="+", default=[], help="labels, with or without sub-"
    )
    add_bids_arguments(parser)
    add_channel_argument(
        parser, "how names of images end, of a model that takes several (default: as it calls them)", "SUFFIX"
    )
    parser.add_argument("--backend", choices=get_args(Backend), help="what runs the networks, as in adnext_predict")
    add_device_argument(parser)
    add_processes_argument(parser, 4)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = Request(
        bids_dir=arguments.bids_dir,
        output_dir=arguments.output_dir,
        level=arguments.level,
        model=arguments.model,
        participants=tuple(arguments.participant_label),
        suffix=arguments.suffix,
        entities=tuple(arguments.entity),
        channels=tuple(arguments.channel),
        backend=arguments.backend,
        device=arguments.device,
        processes=arguments.processes,
    )
    result = run_bids_app(request, print)
    for case, reason in result.failed:
        print(f"error: {case}: {reason}", file=sys.stderr)
    print(f"{len(result.files)} files are in {request.output_dir}; {len(result.failed)} scans failed")
    return 2 if result.failed else 0
