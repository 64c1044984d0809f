"""Evaluated runs side by side, with tests on the same subjects and what these can show."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import write_json
from adnext_plugin.paths import results_dir, without_links
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import DatasetRequest, require_resamples

if TYPE_CHECKING:
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class Request(DatasetRequest):
    """Runs on one dataset: each a trainer's name, that of a run's folder, or a path to one.

    `plans` and `configuration` complete trainers' names. `output`: JSON file to write; None for none.
    """

    runs: tuple[str, ...]
    resamples: int = 2000
    output: Path | None = None

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            named = f"{self.runs[0]!r} alone" if self.runs else "none"
            raise SettingsError(f"a comparison needs at least two runs, got {named}")
        require_resamples(self.resamples)

    @classmethod
    def of(
        cls,
        dataset: str | int,
        runs: Sequence[str | PathLike[str]],
        plans: str,
        configuration: str,
        resamples: int,
        output: str | PathLike[str] | None,
    ) -> "Request":
        """A request from what a Python program may give: a dataset by its number, and paths of any kind."""
        return cls(
            dataset=dataset,
            plans=plans,
            configuration=configuration,
            runs=tuple(str(Path(run)) for run in runs),
            resamples=resamples,
            output=None if output is None else Path(output),
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """The comparison, the folders of its runs in order, and the cohort that they were evaluated on.

    `warnings`: what results must be stamped with, by run.
    """

    comparison: "Comparison"
    runs: tuple[RunFolder, ...]
    cohort: "Cohort"
    warnings: tuple[str, ...]


def compare(request: Request) -> Result:
    """Compare runs that were evaluated on the same folds.

    Raises:
        PathsError: there is no such dataset or run, or a run was not evaluated.
        SettingsError: the task is not a classification, or a run is named twice.
        SplitError: the runs were evaluated on different folds or subjects.
    """
    import numpy as np

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies import comparison as study
    from adnext_plugin.evaluation.subjects.evaluated_runs import (
        find_run,
        read_run,
        require_same_subjects,
        with_distinct_names,
    )
    from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data

    cohort = Cohort.open(request.dataset_folder)
    if cohort.task.kind != "classification":
        raise SettingsError(f"{cohort.name} is {cohort.task.kind}; only classifiers can be compared")
    if len(cohort.repeats) > 1:
        raise SettingsError(
            f"{cohort.name} has a repeated cross-validation, of which runs cannot be compared: the tests count "
            "everybody once. Compare them on the folds of one repeat"
        )
    results = results_dir() / cohort.name
    folders = [find_run(run, results, request.plans, request.configuration) for run in request.runs]
    refuse_repeats(folders)
    people = PreparedData(cohort=cohort, plans=None, configuration=None)
    for folder in folders:
        refuse_other_data(folder.folds(), people)
    runs = with_distinct_names([read_run(folder, cohort.task) for folder in folders], folders)
    require_same_subjects(runs, cohort.splits_sha256)
    result = Result(
        comparison=study.compare(
            {run.name: run.predictions for run in runs},
            resamples_of(runs[0].predictions, request.resamples),
            float(np.mean([len(fold["val"]) / len(fold["train"]) for fold in cohort.splits])),
        ),
        runs=tuple(folders),
        cohort=cohort,
        warnings=tuple(f"{run.name}: {stamp}" for run in runs for stamp in run.stamps),
    )
    if request.output:
        write_json(_content(result, request.resamples), request.output)
    return result


def _content(result: Result, resamples: int) -> dict:
    return {
        "warnings": list(result.warnings),
        "dataset": result.cohort.name,
        "classes": list(result.cohort.task.classes),
        "splits_sha256": result.cohort.splits_sha256,
        "resamples": resamples,
        **asdict(result.comparison),
    }


def refuse_repeats(runs: Sequence[RunFolder]) -> None:
    """Make sure that no run is compared with itself.

    Raises:
        SettingsError: names one that is there twice.
    """
    for index, run in enumerate(runs):
        if without_links(run.path) in [without_links(other.path) for other in runs[:index]]:
            raise SettingsError(f"the run {run.path.name} is named twice; name each run once")
