"""What a trained model is beside its weights: records that a bundle keeps as JSON, without anything of any one person.

No name of a case or subject, no label of one and no path goes in here.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from adnext_plugin.errors import SettingsError
from adnext_plugin.plan import Plan
from adnext_plugin.records import record, with_overrides
from adnext_plugin.settings import Precision, Protocol, TrainerSettings
from adnext_plugin.task import Task
from adnext_plugin.training.checkpoint_notes import TargetScale
from adnext_plugin.training.covariates import CovariateScale

FEWEST_CASES = 5  # quartiles of fewer are close to the values of single people, and of little use
FAR_OUT = 3.0  # widths of the middle half beyond its ends
NARROWEST = 0.02  # of the median: a width for what hardly varies, such as the voxel size of one scanner
MOST_CHANNELS = 100
FOLD_NAME = re.compile(r"[0-9]{1,3}|all")


@record
class Range:
    """Quartiles of a quantity over people, and from where on a value is far out.

    Source of the rule: Tukey 1977, Exploratory Data Analysis (beyond the quartiles by three times their distance).
    """

    lower_quartile: FiniteFloat
    median: FiniteFloat
    upper_quartile: FiniteFloat
    cases: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range | None":
        """Of at least `FEWEST_CASES` values; None for fewer."""
        if len(values) < FEWEST_CASES:
            return None
        low, middle, high = (float(value) for value in np.percentile(np.asarray(values, dtype=float), (25, 50, 75)))
        return cls(lower_quartile=low, median=middle, upper_quartile=high, cases=len(values))

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that is not far out."""
        width = max(self.upper_quartile - self.lower_quartile, NARROWEST * abs(self.median))
        return self.lower_quartile - FAR_OUT * width, self.upper_quartile + FAR_OUT * width


@record
class FoldDescription:
    """One network of the ensemble."""

    name: str  # number of its fold, or "all"
    precision: Precision | None = None  # that it was trained in, and predicts in; None: by an earlier version
    temperature: FiniteFloat = 1.0  # what logits are divided by
    temperature_at_limit: bool = False
    threshold: FiniteFloat | None = None  # of the calibrated probability of the positive class, with two classes
    target_scale: TargetScale | None = None  # of a regression
    covariate_scale: CovariateScale | None = None
    feature_distance: Range | None = None  # of people like those trained on, but held out

    def __post_init__(self) -> None:
        if not FOLD_NAME.fullmatch(self.name):
            raise SettingsError(f"a fold is a number or 'all', not {self.name!r}")
        if self.temperature <= 0:
            raise SettingsError(f"the temperature of fold {self.name} must be positive, got {self.temperature}")
        if self.feature_distance is not None and self.feature_distance.median <= 0:
            raise SettingsError(f"the usual feature distance of fold {self.name} must be positive")


@record
class ModelDescription:
    """An ensemble: what its networks are, what goes in, how what comes out is read."""

    dataset: str  # that it was trained on
    trainer: str
    plans_name: str
    configuration: str
    protocol: Protocol
    plan: Plan  # with the task
    in_channels: int
    stored_spacing_mm: tuple[float, float, float]  # of volumes prepared by nnU-Net, z, y, x
    folds: tuple[FoldDescription, ...]
    ranges: dict[str, Range]  # quantities of training scans, by their names in `measured.py`
    trained_with: dict[str, str]  # versions and device
    stamps: tuple[str, ...] = ()  # what all results of these networks are shown with
    images: tuple[str, ...] | None = None  # what the images of a case are called, where there are several

    @model_serializer(mode="wrap")
    def _without_what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As earlier versions wrote it where nothing is new, so that they can read such bundles."""
        content: dict[str, Any] = handler(self)
        if content["images"] is None:
            del content["images"]
        return content

    def __post_init__(self) -> None:
        if self.plan.task is None or self.plan.task.kind == "unlabelled":
            raise SettingsError(
                f"{self.trainer} on {self.dataset} has learned no task, so it predicts nothing; if it was pre-trained, "
                "train with -pretrained_weights first"
            )
        names = [fold.name for fold in self.folds]
        if not names or len(set(names)) < len(names):
            raise SettingsError(f"a model needs folds of different names, got {names}")
        if self.images is not None and (len(self.images) < 2 or len(set(self.images)) < len(self.images)):
            raise SettingsError(f"the images of a case need different names, got {list(self.images)}")
        # of which further steps may make more channels
        fewest = len(self.images or ("scan",))
        most = MOST_CHANNELS if self.plan.preprocessing.steps else fewest
        if not (1 if self.plan.preprocessing.steps else fewest) <= self.in_channels <= most:
            raise SettingsError(f"a model of {fewest} images per case cannot take {self.in_channels} channels")
        covariates = with_overrides(TrainerSettings(), self.plan.training, "the model's plan, training").covariates
        for fold in self.folds:
            self._check(fold, covariates)

    @property
    def task(self) -> Task:
        """What was learned."""
        assert self.plan.task is not None  # checked when made
        return self.plan.task

    @property
    def in_words(self) -> str:
        """What it is, as a line for a person."""
        return (
            f"{len(self.folds)} networks of {self.trainer}, trained on {self.dataset}: "
            f"{', '.join(self.task.classes) or self.task.target}"
        )

    @property
    def threshold(self) -> float | None:
        """From where the mean probability is called positive, the mean over folds; None without two classes."""
        known = [fold.threshold for fold in self.folds if fold.threshold is not None]
        return float(np.mean(known)) if len(known) == len(self.folds) else None

    def _check(self, fold: FoldDescription, covariates: tuple[str, ...]) -> None:
        needed = {
            "target_scale": self.plan.known_task.kind == "regression",
            "threshold": len(self.plan.known_task.classes) == 2,
            "covariate_scale": bool(covariates),
        }
        for name, is_needed in needed.items():
            if is_needed != (getattr(fold, name) is not None):
                raise SettingsError(f"fold {fold.name} must {'' if is_needed else 'not '}have a {name}")
        scale = fold.covariate_scale
        if scale is not None and (
            scale.names != covariates or not len(scale.means) == len(scale.deviations) == len(covariates)
        ):
            raise SettingsError(f"fold {fold.name} has a scale of other covariates than {', '.join(covariates)}")
