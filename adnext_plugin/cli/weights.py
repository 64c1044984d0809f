"""`adnext_weights`: the weights that come with the package and what they are worth; those of others, and for others."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.builtin.card import ModelCard, card_page
from adnext_plugin.builtin.weights import PREFIX, builtin_names, card_of
from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.foreign_weights import Request as ImportRequest
from adnext_plugin.workflows.foreign_weights import import_weights
from adnext_plugin.workflows.hub_folder import Request as HubRequest
from adnext_plugin.workflows.hub_folder import write_hub_folder


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_weights",
        "List the weights that come with the package, with what they are worth. With --from, read those of another "
        "project; with --to-hub, write a folder for others.",
    )
    parser.add_argument(
        "weights",
        nargs="?",
        metavar="NAME_OR_FILE",
        help="without an option, of weights that come with the package: print their card (data, terms, scores, limits)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="the file is of this project (adnext_list weight_sources); needs -o",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="with --from: the checkpoint to write, .pth or .safetensors, for -pretrained_weights",
    )
    parser.add_argument(
        "--to-hub",
        type=Path,
        metavar="FOLDER",
        help="write the checkpoint of a run, or builtin:NAME, as a folder that the Hugging Face hub and, of ResEnc-L, "
        "nnU-Net's pre-training commands and asparagus read",
    )
    parser.add_argument("--licence", help="with --to-hub: of the weights, for the folder's page")
    parser.add_argument("--overwrite", action="store_true", help="replace what is to be written")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.source is not None or arguments.to_hub is not None:
        _convert(arguments)
    elif arguments.weights is not None:
        print(card_page(card_of(arguments.weights)), end="")
    else:
        for name in builtin_names():
            _print_short(card_of(name))
    return 0


def _convert(arguments: Namespace) -> None:
    if arguments.weights is None:
        raise SettingsError("--from and --to-hub need a file, or builtin:NAME")
    if arguments.to_hub is not None:
        if arguments.source is not None:
            raise SettingsError("--from reads a file and --to-hub writes a folder; give one of them")
        request = HubRequest(
            weights=arguments.weights,
            folder=arguments.to_hub,
            licence=arguments.licence,
            overwrite=arguments.overwrite,
        )
        write_hub_folder(request, print)
        return
    if arguments.output is None:
        raise SettingsError("--from needs -o FILE, the checkpoint to write")
    done = import_weights(
        ImportRequest(
            file=Path(arguments.weights),
            source=arguments.source,
            output=arguments.output,
            overwrite=arguments.overwrite,
        ),
        print,
    )
    options = {"options": dict(done.network.options)} if done.network.options else {}
    print(f"licence: {done.origin['licence']}")
    print(f"scans: {done.origin['prepared']}")
    print(f"cite: {done.origin['cite']}")
    network = json.dumps({"network": {"name": done.network.name, **options}})
    print(f"use: a preset with {network}, -tr ADNeXtTrainer -pretrained_weights {done.checkpoint}")


def _print_short(card: ModelCard) -> None:
    print(f"{PREFIX}{card.name}  {card.title}")
    size = " × ".join(map(str, card.input_size_voxels))
    print(f"  {card.network}, {card.parameters:,} parameters, {size} voxels of {card.spacing_mm[0]:g} mm")
    print(f"  learned from {' and '.join(f'{one.people} people of {one.name}' for one in card.sources)}")
    for score in card.scores:
        guessing = "" if score.guessing is None else f"; guessing: {score.guessing:.1f}"
        print(f"  {score.name} {score.in_words} in {score.of} ({score.people} people{guessing})")
    print(
        f"  use: adnext_predict -m {PREFIX}{card.name}, or -tr {card.trainer} -pretrained_weights {PREFIX}{card.name}"
    )
