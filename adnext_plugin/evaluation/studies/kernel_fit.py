"""Linear models of many more values than cases, fitted on products between cases alone: a precomputed kernel.

A penalty by squares is unmoved when axes are turned, so that what is learned lies in the span of the training cases:
`weights = sum of dual[i] * values of case i`. How strong the penalty is, is chosen by people within the training cases.

Sources: Schoelkopf and Smola 2002, Learning with Kernels (the span); Platt 1999, Advances in Large Margin Classifiers
(probabilities of a support vector machine, on answers to cases left out, towards targets that are never quite 0 or 1).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.linear_voxels import fewest_people, inner_folds
from adnext_plugin.settings import ClassWeights

Classifier = Literal["logistic", "svm"]
STRENGTHS = np.logspace(-5, 5, 21)  # for sex on OASIS-1 the best are 100 and more
TOLERANCE, MOST_STEPS = 1e-8, 20_000  # so that an answer does not depend on where the solver stopped
MOST_FOR_NEWTON = 4000  # coefficients
SMALLEST = 1e-12  # of the largest: squared lengths along an axis that are rounding alone

# (what is fitted on, its targets, the strength) to weights (K, R) of coordinates and offsets (K,)
Fit = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class KernelModel:
    """Outputs (K,) of a case are `dual @ products + offset`, of its products with the N training cases.

    Of classes they are logits; of a number, the number. `strength` is the inverse of the penalty, and `inner_score`
    what it was chosen by, the larger the better. `left_out` (N, K): outputs for the training cases by models that were
    fitted without them and the other scans of the same person.
    """

    dual: np.ndarray
    offset: np.ndarray
    strength: float
    inner_score: float
    left_out: np.ndarray


def fit_classes(
    gram: np.ndarray,
    targets: np.ndarray,
    people: np.ndarray,
    *,
    classifier: Classifier,
    weighting: ClassWeights,
    folds: int,
    seed: int,
) -> KernelModel:
    """Learn classes.

    Args:
        gram: products between cases, (N, N) float64.
        targets: class index of each case.
        people: who each case is.
        classifier: L2-penalised logistic regression, or a linear support vector machine, of each class against the
            others. The strength is the one whose probabilities for people left out have the least weighted log loss.
        weighting: how much a class weighs.
        folds: of the inner cross-validation.
        seed: of its deal of people.

    Raises:
        SettingsError: a class has fewer than two people, or the cases are all alike.
    """
    if fewest_people(targets, people) < 2:
        raise SettingsError(
            "the strength of a linear model is chosen by leaving people out, and one class has a single person to "
            "train on; import more people"
        )
    span, weights = Span(gram), sample_weights(targets, weighting)
    shares = list(inner_folds(targets, people, folds, seed))
    fit = _logistic(weighting) if classifier == "logistic" else _support_vectors(weighting)
    answers = _left_out(span.coordinates, targets, shares, fit)
    # decisions of a support vector machine become logits; those of a logistic regression are some
    maps = [_as_they_are(found) if classifier == "logistic" else _platt(found, targets, weights) for found in answers]
    logits = [found @ slopes.T + shifts for found, (slopes, shifts) in zip(answers, maps, strict=True)]
    scores = np.array([-_weighted_log_loss(found, targets, weights) for found in logits])
    best = int(np.argmax(scores))
    coefficients, offset = fit(span.coordinates, targets, STRENGTHS[best])
    slopes, shifts = maps[best]
    return span.model(
        slopes @ coefficients,
        slopes @ offset + shifts,
        float(STRENGTHS[best]),
        float(scores[best]),
        logits[best],
    )


def fit_number(gram: np.ndarray, targets: np.ndarray, people: np.ndarray, *, folds: int, seed: int) -> KernelModel:
    """Learn a number by ridge regression, its strength chosen by the mean squared error; as `fit_classes`."""
    different = len(set(people))
    if different < 2:
        raise SettingsError("the strength of a linear model is chosen by leaving people out; import more than one")
    span = Span(gram)
    shares = list(GroupKFold(min(folds, different), shuffle=True, random_state=seed).split(targets, groups=people))
    answers = _left_out(span.coordinates, targets, shares, _ridge)
    scores = -((answers[:, :, 0] - targets) ** 2).mean(axis=1)
    best = int(np.argmax(scores))
    coefficients, offset = _ridge(span.coordinates, targets, STRENGTHS[best])
    return span.model(coefficients, offset, float(STRENGTHS[best]), float(scores[best]), answers[best])


class Span:
    """The space that cases span around their mean: `coordinates` (N, R), with the same products between them.

    Args:
        gram: products between cases, (N, N).

    Raises:
        SettingsError: the cases are all alike.
    """

    def __init__(self, gram: np.ndarray) -> None:
        self._means = gram.mean(axis=1)
        squares, axes = np.linalg.eigh(gram - self._means - self._means[:, None] + gram.mean())
        kept = squares > max(squares.max(), 0) * SMALLEST
        if squares.max() <= np.abs(gram).max() * SMALLEST:
            raise SettingsError("the images to train on are all alike where the linear model looks at them")
        lengths = np.sqrt(squares[kept])
        self.coordinates = axes[:, kept] * lengths
        self._back = axes[:, kept] / lengths

    def model(
        self, coefficients: np.ndarray, offset: np.ndarray, strength: float, score: float, left_out: np.ndarray
    ) -> KernelModel:
        """A model of the coordinates as one of products with the training cases."""
        dual = coefficients @ self._back.T
        # rows of `dual` sum to 0, so that the mean of the cases drops out but for this
        shift = offset - dual @ self._means
        return KernelModel(dual=dual, offset=shift, strength=strength, inner_score=score, left_out=left_out)


def class_weights(targets: np.ndarray, weighting: ClassWeights) -> dict[int, float]:
    """How much a case of each class counts, 1 on average over cases or classes; as the losses of networks have it."""
    names, counts = np.unique(targets, return_counts=True)
    weights = {
        "inverse_frequency": len(targets) / (len(names) * counts),
        "none": np.ones(len(names)),
        "counts": len(names) * counts / len(targets),
    }[weighting]
    return dict(zip(names.tolist(), weights.tolist(), strict=True))


def sample_weights(targets: np.ndarray, weighting: ClassWeights) -> np.ndarray:
    """How much each case counts."""
    weights = class_weights(targets, weighting)
    return np.array([weights[target] for target in targets.tolist()])


def _logistic(weighting: ClassWeights) -> Fit:
    def fit(coordinates: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        weights = class_weights(targets, weighting)
        # Newton's steps end where the answer is, others where they are slow; of many cases they take too much memory
        solver = "newton-cholesky" if len(weights) * coordinates.shape[1] <= MOST_FOR_NEWTON else "lbfgs"
        model = LogisticRegression(C=strength, class_weight=weights, solver=solver, tol=TOLERANCE, max_iter=MOST_STEPS)
        return _two_rows(model.fit(coordinates, targets))

    return fit


def _support_vectors(weighting: ClassWeights) -> Fit:
    def fit(coordinates: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        gram, names = coordinates @ coordinates.T, np.unique(targets)
        rows, offsets = [], []
        for name in names[1:] if len(names) == 2 else names:
            is_it = (targets == name).astype(int)
            model = SVC(C=strength, kernel="precomputed", class_weight=class_weights(is_it, weighting), tol=1e-6)
            model.fit(gram, is_it)
            rows.append(model.dual_coef_[0] @ coordinates[model.support_])
            offsets.append(model.intercept_[0])
        return np.stack(rows), np.array(offsets)

    return fit


def _ridge(coordinates: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    model = Ridge(alpha=1 / strength).fit(coordinates, targets)
    return model.coef_[None], np.array([model.intercept_])


def _two_rows(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights and offsets of logits; scikit-learn has one row for two classes, the difference of theirs."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _left_out(
    coordinates: np.ndarray, targets: np.ndarray, shares: list[tuple[np.ndarray, np.ndarray]], fit: Fit
) -> np.ndarray:
    """Outputs for cases left out, (strengths, N, K).

    Cases that no fold leaves out, because too few would be left of a class, are answered by all of them.
    """
    found: list[np.ndarray] = []
    for strength in STRENGTHS:
        answers: np.ndarray | None = None
        for train, test in _and_the_rest(shares, len(targets)):
            weights, offsets = fit(coordinates[train], targets[train], strength)
            if answers is None:
                answers = np.zeros((len(targets), len(offsets)))
            answers[test] = coordinates[test] @ weights.T + offsets
        assert answers is not None
        found.append(answers)
    return np.stack(found)


def _and_the_rest(shares: list[tuple[np.ndarray, np.ndarray]], cases: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from shares
    rest = np.setdiff1d(np.arange(cases), np.concatenate([np.empty(0, int), *(test for _, test in shares)]))
    if len(rest):
        yield np.arange(cases), rest


def _weighted_log_loss(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    return log_loss(targets, softmax(logits, axis=1), sample_weight=weights, labels=np.arange(logits.shape[1]))


def _as_they_are(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(logits.shape[1]), np.zeros(logits.shape[1])


def _platt(decisions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (K, M) and shifts (K,) from decisions (N, M) to logits; for more than two classes the multinomial form."""
    names, counts = np.unique(targets, return_counts=True)
    scale = decisions.std(axis=0).max() or 1.0
    rows, wanted, shares = [], [], []
    for name in names:
        is_it = targets == name
        share = np.where(is_it, (counts[targets] + 1) / (counts[targets] + 2), 1 / (counts[targets] + 2))
        rows.append(decisions / scale)
        wanted.append(np.full(len(targets), name))
        shares.append(share * weights)
    model = LogisticRegression(C=1e6, tol=TOLERANCE, max_iter=MOST_STEPS)
    model.fit(np.concatenate(rows), np.concatenate(wanted), sample_weight=np.concatenate(shares))
    slopes, shifts = _two_rows(model)
    return slopes / scale, shifts
