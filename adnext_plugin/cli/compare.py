"""`adnext_compare`: set evaluated runs side by side, with tests on the same subjects and what they can show."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.evaluation_text import in_words
from adnext_plugin.cli.runs import add_dataset_argument
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import write_json
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME, dataset_folder_name, preprocessed_dir, results_dir
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import require_resamples

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.comparison import Comparison, Pair


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    dataset: str
    runs: tuple[str, ...]
    plans: str
    configuration: str
    resamples: int
    output: Path | None


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_compare", "Compare runs that adnext_evaluate has scored on the same folds.")
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
    request = _request(build_parser().parse_args(argv))

    import numpy as np

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.comparison import compare
    from adnext_plugin.evaluation.subjects.evaluated_runs import (
        find_run,
        read_run,
        require_same_subjects,
        with_distinct_names,
    )
    from adnext_plugin.evaluation.uncertainty.intervals import resamples_of

    cohort = Cohort.open(preprocessed_dir() / request.dataset)
    task = cohort.task
    if task.kind != "classification":
        raise SettingsError(f"{request.dataset} is {task.kind}; only classifiers can be compared")
    results = results_dir() / request.dataset
    folders = [find_run(run, results, request.plans, request.configuration) for run in request.runs]
    _refuse_repeats(folders)
    runs = with_distinct_names([read_run(folder, task) for folder in folders], folders)
    require_same_subjects(runs, cohort.splits_sha256)
    comparison = compare(
        {run.name: run.predictions for run in runs},
        resamples_of(runs[0].predictions, request.resamples),
        float(np.mean([len(fold["val"]) / len(fold["train"]) for fold in cohort.splits])),
    )
    notes = [f"{run.name}: {stamp}" for run in runs for stamp in run.stamps]
    _print(comparison, task.classes, len(cohort.splits), notes)
    if request.output:
        facts = {"dataset": request.dataset, "classes": list(task.classes), "splits_sha256": cohort.splits_sha256}
        content = {"warnings": notes, **facts, "resamples": request.resamples, **asdict(comparison)}
        write_json(content, request.output)
        print(f"The comparison is in {request.output}")
    return 0


def _request(arguments: Namespace) -> Request:
    if len(arguments.runs) < 2:
        raise SettingsError(f"a comparison needs at least two runs, got {arguments.runs[0]!r} alone")
    return Request(
        dataset=dataset_folder_name(arguments.dataset, [preprocessed_dir()]),
        runs=tuple(arguments.runs),
        plans=arguments.plans,
        configuration=arguments.configuration,
        resamples=require_resamples(arguments.resamples),
        output=arguments.output,
    )


def _refuse_repeats(runs: Sequence[RunFolder]) -> None:
    for index, run in enumerate(runs):
        if run.path.resolve() in [other.path.resolve() for other in runs[:index]]:
            raise SettingsError(f"the run {run.path.name} is named twice; name each run once")


def _print(comparison: "Comparison", classes: Sequence[str], folds: int, notes: Sequence[str]) -> None:
    from adnext_plugin.evaluation.uncertainty.detectable import area_in_words

    for note in notes:
        print(note)
    counts = ", ".join(f"{count} {name}" for count, name in zip(comparison.subjects_by_class, classes, strict=True))
    print(f"{sum(comparison.subjects_by_class)} held-out subjects ({counts}) in {folds} folds, the same for all runs")
    width = max(len(run.name) for run in comparison.runs) + 2
    print(f"{'':{width}}{'AUC, mean of folds':26}{'DeLong interval':20}by fold")
    for run in comparison.runs:
        by_fold = "  ".join(_number(area) for area in run.auc_by_fold)
        interval = "-" if run.delong is None or run.delong.low is None else _range(run.delong.low, run.delong.high)
        print(f"{run.name:{width}}{in_words(run.auc_mean_of_folds):26}{interval:20}{by_fold}")
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
        print(f"  {said:24}p {_number(p):9}Holm {_number(corrected):9}{remark or ''}".rstrip())
    print(f"  {pair.conclusion}")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if 0 < value < 0.001 else f"{value:.3f}"


def _range(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]"
