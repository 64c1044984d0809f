"""`adnext_probe`: what a frozen encoder tells of people, before anything is trained with it."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import RECOMMENDED, add_device_argument, add_run_arguments, baselines_in, recommended
from adnext_plugin.cli.score_text import in_words
from adnext_plugin.workflows.probe import Request, probe

if TYPE_CHECKING:
    from adnext_plugin.findings import ColumnProbe, FrozenProbes


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_probe",
        "Linear models of a frozen encoder's features on the dataset's folds, beside those of a random encoder, tissue "
        "volumes and columns of subjects.csv.",
    )
    add_run_arguments(parser, RECOMMENDED)
    parser.add_argument(
        "--pretrained-weights",
        "-pretrained_weights",
        type=Path,
        metavar="FILE",
        help="checkpoint of the encoder, or builtin:NAME (adnext_weights); without, only the random one is probed",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="of subjects.csv, to be told from features (default: what the dataset is for, age, sex, site, scanner, "
        "vendor, field_strength, as far as there are)",
    )
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="A,B",
        help="linear model of these columns; may be repeated (age,sex is always one)",
    )
    parser.add_argument(
        "--other-people", metavar="REASON", help="say why ids that the weights have seen are not the same people"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the random encoder (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="also write the findings to a JSON file")
    add_device_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = vars(recommended(build_parser().parse_args(argv)))
    columns, baselines = tuple(arguments.pop("columns")), arguments.pop("baseline")
    _print(probe(Request(**arguments, columns=columns, baselines=baselines_in(baselines)), tell=print))
    return 0


def _print(found: "FrozenProbes") -> None:
    what = "random weights" if found.weights is None else found.weights
    print(f"{found.network}, {found.features} features, {what}, on {found.dataset}")
    for one in found.columns:
        _print_column(one)
    for name, repeated in found.reliability.items():
        found_again = f"[{repeated.low:.3f}, {repeated.high:.3f}], {repeated.share_recognised:.0%} recognised"
        print(f"test-retest of {repeated.people} people, {name}: median ICC {repeated.median_icc:.3f} {found_again}")
    if not found.reliability:
        print("test-retest: fewer than five people have two scans")


def _print_column(one: "ColumnProbe") -> None:
    if not one.models:
        print(f"{one.column}: too few people of whom it is known ({one.subjects})")
        return
    classes = f", {', '.join(one.classes)}" if one.classes else ""
    print(f"{one.column} of {one.subjects} people{classes}: {one.score.replace('_', ' ')}")
    for name, score in one.models.items():
        gain = f"   the encoder's gain {in_words(one.gains[name])}" if name in one.gains else ""
        print(f"  {name:28}{in_words(score)}{gain}")
