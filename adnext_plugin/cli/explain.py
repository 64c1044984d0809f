"""`adnext_explain`: what a run's networks look at in the people whom they never saw, and whether to believe it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument, add_run_arguments, read_settings, trained
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.explain import Request, explain
from adnext_plugin.workflows.explanation_files import FILMS
from adnext_plugin.workflows.feature_diversity import OfCheckpoints, diversity_of_checkpoints, feature_diversity
from adnext_plugin.workflows.feature_diversity import Request as DiversityRequest

if TYPE_CHECKING:
    import pandas as pd

SHOWN_REGIONS = 5


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_explain", "Map what networks look at in held-out people, and check the maps.")
    add_run_arguments(parser)
    parser.add_argument("--method", "-m", help="adnext_list explanations names them")
    parser.add_argument(
        "--feature-diversity",
        action="store_true",
        help="instead of maps: how different the features of every layer are from one another (the paper's Figure 4)",
    )
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        default=[],
        metavar="NETWORK=FILE",
        help="of --feature-diversity: encoders of these files, pre-trained for example, instead of a run's networks",
    )
    parser.add_argument("--other-people", metavar="REASON", help="of --checkpoints: as in adnext_probe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the method, e.g. --set layer=encoder.stages.3",
    )
    parser.add_argument("--target", help="class whose evidence is shown (default: the positive one, the last of more)")
    parser.add_argument("--cases", nargs="+", default=[], help="ids of cases (default: all that are held out)")
    parser.add_argument("--output", "-o", type=Path, help="folder (default: explanations/METHOD in the run's)")
    parser.add_argument(
        "--checks", type=int, default=8, metavar="N", help="check the maps of so many cases (default: %(default)s)"
    )
    parser.add_argument("--animate", choices=FILMS, help="also write a film of each case (png: APNG)")
    parser.add_argument(
        "--truth", type=Path, metavar="MASK", help="NIfTI mask of the right regions, in the space of all scans"
    )
    space = parser.add_argument_group("groups and regions, in MNI152 space")
    space.add_argument(
        "--mni",
        choices=["auto", "aligned", "scans", "register", "none"],
        default="auto",
        help="how maps come there: by the plan's alignment (default where there is one), because all scans lie there, "
        "by an alignment found now, or not at all",
    )
    space.add_argument("--atlas", type=Path, metavar="FILE", help="NIfTI file of regions (default: built-in regions)")
    space.add_argument("--labels", type=Path, metavar="CSV", help="what they are called: columns index and name")
    add_device_argument(parser)
    threshold = parser.add_argument_group("voxels that stand out, in pictures and masks")
    threshold.add_argument(
        "--threshold",
        choices=["top_percent", "otsu", "mean_std"],
        default="top_percent",
        help="highest share of the brain (default), Otsu's threshold, or above mean and standard deviations",
    )
    threshold.add_argument("--percent", type=float, default=10.0, help="of top_percent (default: %(default)g)")
    threshold.add_argument("--deviations", type=float, default=1.0, help="of mean_std (default: %(default)g)")
    threshold.add_argument(
        "--per-slice", choices=["axial", "coronal", "sagittal"], help="each slice by itself, not the brain as a whole"
    )
    threshold.add_argument("--largest-component", action="store_true", help="keep the largest part alone")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if (arguments.method is None) != arguments.feature_diversity:
        raise SettingsError("give one of --method and --feature-diversity; adnext_list explanations names methods")
    if not arguments.checkpoints:  # which belong to no run
        trained(arguments)
    if arguments.feature_diversity:
        _print_diversity(arguments)
        return 0
    result = explain(_request(arguments), print)
    for line in result.findings:
        print(line)
    if result.regions is not None:
        _print_regions(result.regions)
    print(f"Maps of {result.cases} cases are in {result.folder}, with {result.table.name}")
    return 0


def _print_regions(regions: "pd.DataFrame") -> None:
    """Those that hold most, for their size."""
    everybody = regions[regions["group"] == "all"]
    print("Regions that hold most of the maps for their size, as share of the map and of the brain:")
    for row in everybody.sort_values("times_chance", ascending=False).head(SHOWN_REGIONS).itertuples():
        name = f"{row.region}, {row.side}"
        print(f"  {name:50} {row.share:6.1%} of {row.share_of_brain:6.1%}, {row.times_chance:.1f} times chance")


def _print_diversity(arguments: Namespace) -> None:
    names = ("dataset", "plans", "configuration", "device")
    chosen = {name: getattr(arguments, name) for name in names} | {"cases": tuple(arguments.cases)}
    if arguments.checkpoints:
        if arguments.output is None:
            raise SettingsError("--checkpoints belong to no run; say with --output where the files go")
        pairs = tuple(_network_and_file(text) for text in arguments.checkpoints)
        of_files = OfCheckpoints(
            **chosen, checkpoints=pairs, other_people=arguments.other_people, output=arguments.output
        )
        result = diversity_of_checkpoints(of_files, print)
    else:
        of_run = DiversityRequest(**chosen, trainer=arguments.trainer, output=arguments.output)
        result = feature_diversity(of_run, print)
    print(f"Mean cosine distance of features over {result.people} people (0 alike, 0.5 orthogonal), and its SD:")
    for row in result.layers.itertuples():
        of = f"{row.network} " if arguments.checkpoints else ""
        print(f"  {of}{row.axis:8} {row.layer:40} {row.mean:.3f} {row.std:.3f}")
    print(f"Tables and figure are in {result.folder}")


def _network_and_file(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise SettingsError(f"--checkpoints {text}: give NETWORK=FILE, such as adnext_b=checkpoint_final.pth")
    return name, Path(path)


def _request(arguments: Namespace) -> Request:
    run = ("dataset", "trainer", "plans", "configuration", "device")
    names = (*run, "method", "target", "checks", "animate", "truth", "mni", "atlas", "labels", "output")
    return Request(
        **{name: getattr(arguments, name) for name in names},
        settings=read_settings(arguments.set, "give KEY=VALUE"),
        threshold={
            "rule": arguments.threshold,
            "percent": arguments.percent,
            "deviations": arguments.deviations,
            "per_slice": arguments.per_slice,
            "largest_component": arguments.largest_component,
        },
        cases=tuple(arguments.cases),
    )
