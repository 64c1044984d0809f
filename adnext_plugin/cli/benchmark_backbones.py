"""`adnext_benchmark_backbones`: networks under equal conditions on one dataset, before one is scaled up."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import (
    add_configuration_argument,
    add_dataset_argument,
    add_device_argument,
    add_plans_argument,
    read_settings,
)
from adnext_plugin.cli.score_text import in_words, p_in_words
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.benchmark_backbones import Request, Result, benchmark_backbones

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.backbones import Backbone


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_benchmark_backbones",
        "Train networks on the same folds for the same time or number of steps, and rank them.",
    )
    add_dataset_argument(parser)
    parser.add_argument("--networks", required=True, metavar="A,B,...", help="two or more of adnext_networks, by name")
    parser.add_argument(
        "--budget", required=True, type=float, metavar="MINUTES", help="of training steps in one fold, for each network"
    )
    parser.add_argument(
        "--equal",
        choices=["seconds", "steps"],
        default="seconds",
        help="what is the same for all: time (default), or the number of steps, that of the slowest in the budget",
    )
    parser.add_argument(
        "--pretrained",
        action="append",
        default=[],
        metavar="NETWORK=FILE",
        help="also train the network from this checkpoint; may be repeated",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all trainers"
    )
    add_plans_argument(parser)
    add_configuration_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: backbones.json beside the runs")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = Request(
        dataset=arguments.dataset,
        plans=arguments.plans,
        configuration=arguments.configuration,
        networks=tuple(name.strip() for name in arguments.networks.split(",") if name.strip()),
        budget_minutes=arguments.budget,
        equal=arguments.equal,
        pretrained=dict(_named_file(item) for item in arguments.pretrained),
        settings=read_settings(arguments.set, "write --set KEY=VALUE"),
        device=arguments.device,
        resamples=arguments.resamples,
        output=arguments.output,
    )
    _print(benchmark_backbones(request, print))
    return 0


def _named_file(item: str) -> tuple[str, str]:
    name, found, file = item.partition("=")
    if not found or not name or not file:
        raise SettingsError(f"--pretrained {item}: write NETWORK=FILE")
    return name, str(Path(file).absolute()) if not file.startswith("builtin:") else file


def _print(result: Result) -> None:
    for warning in result.warnings:
        print(warning)
    what = "time" if result.equal == "seconds" else "number of steps"
    print(f"{result.dataset}, the same folds and the same {what} for all; {result.score}:")
    width = max(len(one.name) for one in result.backbones) + 2
    header = ("parameters", "s a step", "GiB", "steps", "trained, s")
    print(f"{'':{width}}{'score':26}" + "".join(f"{name:>14}" for name in header))
    for one in result.backbones:
        print(f"{one.name:{width}}{in_words(one.score):26}" + "".join(f"{cell:>14}" for cell in _costs(one)))
    for pair in result.pairs:
        print(f"{pair.first} less {pair.second}: {in_words(pair.difference)}, p (Holm) {p_in_words(pair.p_holm)}")
    if any(one.pretrained for one in result.backbones):
        found = result.rank_correlation
        said = "not known, for which three networks are needed that differ" if found is None else f"{found:.2f}"
        print(f"Rank correlation of random and pre-trained weights: {said}")
    print("Each network was trained once per fold: what another seed would change is not part of these numbers.")
    print(f"All of it: {result.file}")


def _costs(one: "Backbone") -> tuple[str, ...]:
    memory = "-" if one.peak_bytes is None else f"{one.peak_bytes / 2**30:.2f}"
    took = "-" if one.trained_s is None else f"{one.trained_s:.0f}"
    return (f"{one.parameters:,}", f"{one.step_s:.3g}", memory, f"{one.steps}", took)
