"""Dice of a segmentation run over all folds that there are, with intervals over people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adnext_plugin.files import read_object, require_file, write_json
from adnext_plugin.formats import Format
from adnext_plugin.paths import SEGMENTATION_BLOCK
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.stamps import PEOPLE_NOT_KNOWN
from adnext_plugin.workflows.common import RunRequest, require_resamples
from adnext_plugin.workflows.segmentation_datasets import Folds, read_folds, with_nnunets_plans

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.evaluation.segmentation.dice import ClassDice
    from adnext_plugin.evaluation.segmentation.summaries import SegmentedCases

DICE = Format(
    name="adnext_dice",
    version=1,
    known_by="mean_of_classes",
    words="what adnext_evaluate writes of a segmentation",
    remedy="evaluate the run again with adnext_evaluate",
)


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run. `resamples`: of the bootstrap."""

    resamples: int = 2000

    def __post_init__(self) -> None:
        require_resamples(self.resamples)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Dice by class, the mean of classes last where there are several, and where it lies.

    `unit` is what was resampled: "subject", or "case" where nobody has written down whose cases they are. `folds`:
    those that there are; `missing_folds`: the others that were drawn. `warning`: what all of it is stamped with.
    """

    run: RunFolder
    folder: EvaluationFolder
    dataset: str
    cases: "SegmentedCases"
    unit: str
    folds: tuple[int, ...]
    missing_folds: tuple[int, ...]
    classes: "tuple[ClassDice, ...]"
    warning: str | None


def evaluate_segmentation(request: Request) -> Result:
    """Score the held-out cases of a run by nnU-Net's summaries, and write `dice.json` and `dice.csv`.

    Raises:
        PathsError: there is no such dataset or run, or no fold was validated.
        FormatError: a summary or the file of folds is none.
        SplitError: cases are not those of the dataset's folds.
        TableError: `subjects.csv` does not say whose the cases are.
    """
    from adnext_plugin.evaluation.segmentation.dice import dice_of_classes
    from adnext_plugin.evaluation.segmentation.people import people_of_cases

    request = with_nnunets_plans(request)
    run, folder = request.run, request.dataset_folder
    drawn = read_folds(folder)
    cases = held_out_cases(run, drawn)
    people = people_of_cases(folder, cases.case_ids)
    folds = tuple(sorted(set(cases.folds)))
    result = Result(
        run=run,
        folder=run.evaluation,
        dataset=folder.name,
        cases=cases,
        unit=unit_of(people),
        folds=folds,
        missing_folds=tuple(sorted(set(range(len(drawn or ()))) - set(folds))),
        classes=dice_of_classes(cases, people or cases.case_ids, request.resamples),
        warning=warning_of(run),
    )
    _write_table(result, people)
    write_json(DICE.stamped(_content(result, request.resamples)), result.folder.dice_file)
    return result


def held_out_cases(run: RunFolder, drawn: Folds | None) -> "SegmentedCases":
    """The cases that a run's folds held out, which are those of the dataset's folds.

    Args:
        run: of any trainer.
        drawn: the dataset's folds, where they are known.

    Raises:
        PathsError: there is no such run, or no fold was validated.
        FormatError: a summary is none.
        SplitError: cases are not those of the dataset's folds.
    """
    from adnext_plugin.evaluation.segmentation.summaries import read_segmented_cases, require_folds

    cases = read_segmented_cases(run)
    if drawn is not None:
        require_folds(cases, drawn, run)
    return cases


def unit_of(people: Sequence[str] | None) -> str:
    """What is resampled."""
    return "case" if people is None else "subject"


def warning_of(run: RunFolder) -> str | None:
    """What results of a run are stamped with: nobody compares whom first weights have seen with whom a fold holds out.

    nnU-Net's own command leaves no word of weights that it has read.
    """
    if not run.plans_file.is_file():
        return None
    configurations = read_object(run.plans_file).get("configurations")
    settings: Any = configurations
    for key in (run.configuration, SEGMENTATION_BLOCK, "settings"):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    is_pretrained = isinstance(settings, Mapping) and settings.get("pretrained_weights") is not None
    return PEOPLE_NOT_KNOWN if is_pretrained else None


def read_table(folder: EvaluationFolder) -> "pd.DataFrame":
    """Dice of every held-out case, as `evaluate_segmentation` has written it down.

    Raises:
        PathsError: the run was not evaluated.
        TableError: the file is damaged.
    """
    from adnext_plugin.csv_files import read_csv

    return read_csv(
        require_file(folder.dice_table, "evaluate the run first"),
        texts=("case_id", "subject_id", "prediction"),
        needed=("case_id", "fold", "prediction"),
        remedy="evaluate the run again with adnext_evaluate",
        empty_is_missing=True,
        float_precision="round_trip",
    )


def _content(result: Result, resamples: int) -> dict[str, Any]:
    found = [asdict(one) for one in result.classes]
    has_mean = len(found) > 1
    return {
        "warning": result.warning,
        "dataset": result.dataset,
        "trainer": result.run.trainer,
        "unit": result.unit,
        "folds": list(result.folds),
        "missing_folds": list(result.missing_folds),
        "resamples": resamples,
        "classes": found[:-1] if has_mean else found,
        "mean_of_classes": found[-1] if has_mean else None,
    }


def _write_table(result: Result, people: Sequence[str] | None) -> None:
    import pandas as pd

    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.evaluation.segmentation.dice import with_mean

    cases = result.cases
    _, values = with_mean(cases.classes, cases.dice)
    columns = [*(f"dice_{name}" for name in cases.classes), "mean_dice"]  # of one class there is no mean
    table = pd.DataFrame({"case_id": cases.case_ids, "fold": cases.folds})
    if people is not None:
        table["subject_id"] = people
    for index in range(values.shape[1]):
        table[columns[index]] = values[:, index]
    write_csv(table.assign(prediction=cases.files), result.folder.dice_table)
