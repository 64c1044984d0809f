"""Segmentation runs in a Python program: score, compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pandas as pd

from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.workflows import compare_segmentations as comparing
from adnext_plugin.workflows import evaluate_segmentation as evaluating
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.compare import Request
from adnext_plugin.workflows.unnamed_trainer import trainer_that_was_trained


@dataclass(frozen=True, kw_only=True, repr=False)
class SegmentationResults:
    """What a run's networks made of cases that they had not seen.

    `folder` and `evaluation` name all files. `dice` has a row per class, the mean of classes last: `value`, its 95 %
    interval from `low` to `high`, `standard_deviation` and `median` over cases, the number of `cases` and of those
    `without` a Dice. `cases` has a row per held-out case. `warning` is what all of it is stamped with.
    """

    folder: RunFolder
    evaluation: EvaluationFolder
    dice: pd.DataFrame
    cases: pd.DataFrame
    missing_folds: tuple[int, ...]
    warning: str | None

    def __repr__(self) -> str:
        last = self.dice.iloc[-1]
        interval = "" if pd.isna(last["low"]) else f", 95 % interval {last['low']:.3f} to {last['high']:.3f}"
        lines = [f"<{self.folder.trainer} on {self.folder.path.parent.name}"]
        lines += [self.warning] if self.warning else []
        lines += [f"Dice, {self.dice.index[-1]}: {last['value']:.3f}{interval}"]
        lines += [f"{len(self.cases)} held-out cases in {self.evaluation.path}>"]
        return "\n".join(lines)


def evaluate_segmentation(
    dataset: str | int,
    *,
    trainer: str | None = None,
    plans: str = PLANS_NAME,
    configuration: str = CONFIGURATION,
    resamples: int = 2000,
) -> SegmentationResults:
    """Score the segmentations of held-out cases by nnU-Net's Dice, as `adnext_evaluate` does.

    Args:
        dataset, trainer, plans, configuration: which run; by default that of the only trainer that the dataset was
            trained with, under nnU-Net's plans where there are none of ours.
        resamples: of the bootstrap.

    Returns:
        Dice by class and by case; both are in the run's folder, too.

    Raises:
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    if trainer is None:
        named = DatasetRequest(dataset=dataset, plans=plans, configuration=configuration)
        trainer = trainer_that_was_trained(named)
    request = evaluating.Request(
        dataset=dataset, trainer=trainer, plans=plans, configuration=configuration, resamples=resamples
    )
    found = evaluating.evaluate_segmentation(request)
    rows = {one.name: _row(one) for one in found.classes}
    return SegmentationResults(
        folder=found.run,
        evaluation=found.folder,
        dice=pd.DataFrame.from_dict(rows, orient="index"),
        cases=evaluating.read_table(found.folder),
        missing_folds=found.missing_folds,
        warning=found.warning,
    )


def _row(one: Any) -> Mapping[str, float | int | None]:
    counts = {"cases": one.cases, "without": one.without}
    spread = {"standard_deviation": one.standard_deviation, "median": one.median}
    return {"value": one.mean.value, "low": one.mean.low, "high": one.mean.high, **spread, **counts}


def compare_segmentations(
    dataset: str | int,
    runs: Sequence[str | PathLike[str]],
    *,
    plans: str = PLANS_NAME,
    configuration: str = CONFIGURATION,
    resamples: int = 2000,
    output: str | PathLike[str] | None = None,
) -> comparing.Result:
    """Compare runs by Dice of the same cases, as `adnext_compare` does.

    Args:
        dataset: number or name.
        runs: two or more, of any trainer, nnU-Net's own among them; each a trainer's name, that of a run's folder, or a
            path to one.
        plans, configuration: complete trainers' names.
        resamples: of the bootstrap.
        output: JSON file to write all of it to.

    Returns:
        Dice of each run with its interval (`runs`), and of each pair the differences, class by class (`pairs`).

    Raises:
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    request = Request.of(dataset, runs, plans, configuration, resamples, output)
    return comparing.compare_segmentations(request)
