"""`adnext_evaluate`: pool the folds of a run, score them with intervals, and set them beside simple baselines."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.evaluation_text import print_evaluation, print_files, print_probes
from adnext_plugin.cli.external_text import print_external
from adnext_plugin.cli.runs import add_device_argument, add_run_arguments, baselines_in, trained
from adnext_plugin.cli.segmentation_text import print_dice
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows import evaluate, evaluate_external, evaluate_segmentation
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.segmentation_datasets import has_segmentations

# options that ask of people's labels
OF_PEOPLE = ("baseline", "external", "other_people", "recalibrate", "sensitivity", "prevalence", "probe", "device")


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_evaluate",
        "Score held-out predictions of all folds, people's beside simple baselines.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="A,B",
        help="linear model of these columns of subjects.csv, or regions (see adnext_regions); may be repeated "
        "(default: age,sex, and regions where they were measured)",
    )
    parser.add_argument(
        "--external",
        metavar="DATASET",
        help="apply the trained folds together to this dataset of other people, with thresholds as they are",
    )
    parser.add_argument(
        "--other-people",
        metavar="REASON",
        help="with --external: say why equal ids in both datasets are not the same people; results are stamped",
    )
    parser.add_argument(
        "--recalibrate",
        choices=["temperature", "intercept", "logistic"],
        help="with --external: also show what probabilities would be worth once fitted to those people; the frozen "
        "result stays as it is",
    )
    add_device_argument(parser, "for --external and --probe; ")
    parser.add_argument(
        "--sensitivity", type=float, default=0.9, help="also decide at the threshold that reaches it on selection"
    )
    parser.add_argument(
        "--prevalence", type=float, nargs="+", default=[], help="predictive values where this share is positive"
    )
    parser.add_argument(
        "--probe",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="what the features of held-out scans tell of these columns of subjects.csv, e.g. --probe site sex",
    )
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = trained(build_parser().parse_args(argv))
    if has_segmentations(DatasetRequest(dataset=arguments.dataset).dataset_folder):
        print_dice(evaluate_segmentation.evaluate_segmentation(_segmentation_request(arguments)))
        return 0
    if arguments.external:
        print_external(evaluate_external.evaluate_external(_external_request(arguments)))
        return 0
    if arguments.other_people is not None:
        raise SettingsError("--other-people is for --external")
    if arguments.recalibrate:
        raise SettingsError("--recalibrate is for --external; within the cohort temperatures are fitted on selection")
    result = evaluate.evaluate(_request(arguments), show_scores=print_evaluation)
    print_probes(result.probes)
    print_files(result)
    return 0


def _segmentation_request(arguments: Namespace) -> evaluate_segmentation.Request:
    defaults = build_parser()
    for name in OF_PEOPLE:
        if getattr(arguments, name) != defaults.get_default(name):
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{option} is for labels of people, and the dataset has segmentations; leave it out")
    names = ("dataset", "trainer", "plans", "configuration", "resamples")
    return evaluate_segmentation.Request(**{name: getattr(arguments, name) for name in names})


def _request(arguments: Namespace) -> evaluate.Request:
    return evaluate.Request(
        **_run(arguments),
        baselines=baselines_in(arguments.baseline),
        sensitivity=arguments.sensitivity,
        prevalences=tuple(arguments.prevalence),
        probes=tuple(arguments.probe),
    )


def _external_request(arguments: Namespace) -> evaluate_external.Request:
    return evaluate_external.Request(
        **_run(arguments),
        external=arguments.external,
        baselines=baselines_in(arguments.baseline),
        other_people=arguments.other_people,
        recalibrate=arguments.recalibrate,
    )


def _run(arguments: Namespace) -> dict:
    names = ("dataset", "trainer", "plans", "configuration", "resamples", "device")
    return {name: getattr(arguments, name) for name in names}
