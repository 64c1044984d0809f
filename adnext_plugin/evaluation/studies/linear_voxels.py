"""L2-penalised logistic or ridge regression on all voxels of smoothed volumes: the classical model of brain images.

It is the bar that Samper-González et al. (NeuroImage 183, 2018) and Bron et al. (NeuroImage: Clinical 31, 2021) hold
against networks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.class_weight import compute_sample_weight

from adnext_plugin.evaluation.studies.linear import balanced_logistic
from adnext_plugin.evaluation.studies.smoothing import Smoothing

FWHM_MM = 6.0
MOST_BYTES = 2 << 30  # of all cases together; beyond it the grid is coarser
STRENGTHS = np.logspace(-5, 2, 15)
INNER_FOLDS = 5
SEED = 0


class LinearOfVoxels:
    """A linear model of many more voxels than cases, whose penalty is chosen by people within the training cases.

    A penalty by squares is unmoved when the axes are turned. So the model is fitted in the space that the cases span
    (all their principal components, none whitened), to the same answer as on the voxels themselves. The strength is
    that with the least weighted log loss in five folds of people, or for a number the least error of leave-one-out.
    """

    def __init__(self, *, is_number: bool) -> None:
        self._is_number = is_number

    def fit(self, features: np.ndarray, targets: np.ndarray, people: np.ndarray) -> "LinearOfVoxels":
        """Learn from cases.

        Args:
            features: `(cases, voxels)`.
            targets: of each case.
            people: who each case is; scans of one person are on one side of an inner fold.
        """
        # per voxel, so that a strength means the same on every grid
        self._scale = 1 / np.sqrt(features.shape[1])
        self._span = KernelPCA(kernel="linear", eigen_solver="dense", copy_X=False)
        inside = self._span.fit_transform(features) * self._scale
        if self._is_number:
            self._model: Any = RidgeCV(1 / STRENGTHS).fit(inside, targets)
        else:
            self._model = balanced_logistic(_best_strength(inside, targets, people)).fit(inside, targets)
            self.classes_ = self._model.classes_
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The number of each case."""
        return self._model.predict(self._span.transform(features) * self._scale)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """`(cases, classes)`, in the order of `classes_`."""
        return self._model.predict_proba(self._span.transform(features) * self._scale)


def smoothed(volume_zyx: np.ndarray, spacing_mm: Sequence[float], cases: int) -> np.ndarray:
    """A volume after a Gaussian of 6 mm full width at half maximum, on a grid that can just show the result.

    Args:
        volume_zyx: one channel.
        spacing_mm: its voxel size.
        cases: how many such volumes must fit into memory; for thousands the grid is coarser.
    """
    smoothing = Smoothing.of(FWHM_MM, spacing_mm)
    while (
        4 * cases * np.prod([-(-size // step) for size, step in zip(volume_zyx.shape, smoothing.steps, strict=True)])
        > MOST_BYTES
    ):
        smoothing = replace(smoothing, steps=tuple(step + 1 for step in smoothing.steps))
    return smoothing(volume_zyx)


def inner_folds(
    targets: np.ndarray, people: np.ndarray, folds: int = INNER_FOLDS, seed: int = SEED
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to ask about, by people; folds without one of the classes to fit on are left out.

    Args:
        targets: class of each case.
        people: who each case is.
        folds: at most; as many as the rarest class has people.
        seed: of the deal.
    """
    shares = StratifiedGroupKFold(min(folds, fewest_people(targets, people)), shuffle=True, random_state=seed)
    for train, test in shares.split(targets, targets, people):
        if len(set(targets[train])) == len(set(targets)):
            yield train, test


def fewest_people(targets: np.ndarray, people: np.ndarray) -> int:
    """How many people the rarest class has."""
    return min(len(set(people[targets == name])) for name in set(targets))


def _best_strength(features: np.ndarray, targets: np.ndarray, people: np.ndarray) -> float:
    """Of the penalties that do best, by the log loss of cases left out, the strictest."""
    if fewest_people(targets, people) < 2:
        return float(STRENGTHS[len(STRENGTHS) // 2])
    weights = compute_sample_weight("balanced", targets)
    losses = np.zeros(len(STRENGTHS))
    # of small cohorts, checks that come out alike in every fit take a third of the time
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for train, test in inner_folds(targets, people):
            for position, strength in enumerate(STRENGTHS):
                model = balanced_logistic(strength).fit(features[train], targets[train])
                shares = model.predict_proba(features[test])
                losses[position] += weights[test].sum() * log_loss(
                    targets[test], shares, sample_weight=weights[test], labels=model.classes_
                )
    return float(STRENGTHS[np.argmin(losses)])
