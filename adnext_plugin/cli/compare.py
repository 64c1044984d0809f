"""`adnext_compare`: set evaluated runs side by side, with tests on the same subjects and what they can show."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_dataset_argument
from adnext_plugin.cli.score_text import in_words, p_in_words
from adnext_plugin.cli.segmentation_text import print_comparison
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.workflows.compare import Request, Result, compare
from adnext_plugin.workflows.compare_segmentations import compare_segmentations
from adnext_plugin.workflows.segmentation_datasets import has_segmentations

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.comparison import Pair


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_compare",
        "Compare segmentations, or runs that adnext_evaluate has scored.",
    )
    add_dataset_argument(parser)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="trainer name, TRAINER__PLANS__CONFIGURATION, or a run's folder"
    )
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="of trainer names (default: %(default)s)")
    parser.add_argument("--configuration", "-c", default=CONFIGURATION, help="of trainer names (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="JSON file to write the comparison to")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = Request(**{**vars(arguments), "runs": tuple(arguments.runs)})
    if has_segmentations(request.dataset_folder):
        print_comparison(compare_segmentations(request))
    else:
        _print(compare(request))
    if request.output:
        print(f"The comparison is in {request.output}")
    return 0


def _print(result: Result) -> None:
    from adnext_plugin.evaluation.uncertainty.detectable import area_in_words

    comparison, classes, folds = result.comparison, result.cohort.task.classes, len(result.cohort.splits)
    for warning in result.warnings:
        print(warning)
    counts = ", ".join(f"{count} {name}" for count, name in zip(comparison.subjects_by_class, classes, strict=True))
    print(f"{sum(comparison.subjects_by_class)} held-out subjects ({counts}) in {folds} folds, the same for all runs")
    width = max(len(run.name) for run in comparison.runs) + 2
    print(f"{'':{width}}{'AUC, mean of folds':26}by fold")
    for run in comparison.runs:
        by_fold = "  ".join(p_in_words(area) for area in run.auc_by_fold)
        print(f"{run.name:{width}}{in_words(run.auc_mean_of_folds):26}{by_fold}")
    for pair in comparison.pairs:
        _print_pair(pair)
    if len(classes) == 2:
        print(area_in_words(comparison.detectable_area))
    print("Each network was trained once per fold: what another seed would change is not part of these numbers.")


def _print_pair(pair: "Pair") -> None:
    tests = pair.tests
    print(f"{pair.first} against {pair.second}: AUC difference {in_words(tests.auc_difference)}")
    discordant = f"only the first right {tests.mcnemar.only_first}, only the second {tests.mcnemar.only_second}"
    for test, said, remark in (
        ("delong", "DeLong", tests.delong.note if tests.delong else "two classes only"),
        ("bootstrap", "paired bootstrap", None),
        ("corrected_t", "corrected t over folds", None),
        ("mcnemar", "McNemar, exact", discordant),
    ):
        p, corrected = getattr(tests.p, test), getattr(pair.p_holm, test)
        print(f"  {said:24}p {p_in_words(p):9}Holm {p_in_words(corrected):9}{remark or ''}".rstrip())
    print(f"  {pair.conclusion}")
