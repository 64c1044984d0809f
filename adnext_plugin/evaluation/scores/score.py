"""What a score is: a function of predictions and of how often each subject counts, and what there is to say of it.

A resample of a bootstrap is a row of weights, how often each subject was drawn; the data themselves are one row of
ones. A score answers for all rows at once, which is what makes intervals over thousands of resamples quick.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from adnext_plugin.errors import AdnextError, RegistryError
from adnext_plugin.evaluation.subjects.values import OfSubjects, SubjectValues

Needs = Literal["classes", "two classes", "three classes", "numbers"]
Place = Literal["headline", "terminal", "terminal by fold", "report", "report by fold"]
Values = Callable[[Any, np.ndarray], np.ndarray | Mapping[str, np.ndarray]]

NEEDS: tuple[Needs, ...] = ("classes", "two classes", "three classes", "numbers")
CLASS = "{class}"  # in a name, stands for each class in turn


@dataclass(frozen=True, kw_only=True)
class Score:
    """One line of the table of scores.

    `values` is a function of predictions of N subjects and weights (R, N) that gives (R,), NaN where a row of weights
    has no value; or, where several scores are had at the cost of one, all of them by their names in `part`.

    `needs` says what it is for: "classes" (any number), "two classes" (with the folds' thresholds), "three classes" (or
    more), or "numbers". `shown` are the places where it is to be seen besides metrics.json, which holds all scores:
    "terminal" and "report", each also "by fold", and the terminal's "headline", beside the baselines'. `everywhere`:
    it is computed of every fold, baseline and seed, too, not of the network over all subjects alone. `within_fold` is
    its name among the scores of a single fold; None where it means nothing there. `chance` is the value of a guess.
    """

    name: str
    values: Values
    needs: Needs
    title: str
    part: str | None = None
    lower_is_better: bool = False
    shown: frozenset[Place] = frozenset({"terminal", "report"})
    everywhere: bool = True
    within_fold: str | None = None
    chance: float | None = None

    def fits(self, predictions: OfSubjects) -> bool:
        """Whether it can be computed of predictions like these."""
        if isinstance(predictions, SubjectValues):
            return self.needs == "numbers"
        classes = len(predictions.classes)
        return {"classes": True, "two classes": classes == 2, "three classes": classes > 2}.get(self.needs, False)

    def of_classes(self, classes: Iterable[str]) -> "tuple[Score, ...]":
        """The score by itself, or one of each class where its name says so."""
        if CLASS not in self.name:
            return (self,)
        return tuple(
            replace(
                self,
                name=self.name.replace(CLASS, name),
                title=self.title.replace(CLASS, name),
                part=name,
                within_fold=None if self.within_fold is None else self.within_fold.replace(CLASS, name),
            )
            for name in classes
        )


def score(
    *,
    needs: Needs,
    title: str,
    lower_is_better: bool = False,
    shown: Iterable[Place] = ("terminal", "report"),
    everywhere: bool = True,
    chance: float | None = None,
) -> Callable[[Callable[[Any, np.ndarray], np.ndarray]], Score]:
    """Make a `Score` of a function of predictions and weights; it is registered in the group `adnext.scores`.

    Args:
        needs: what it is for; see `Score`.
        title: what it is called in the terminal and the report.
        lower_is_better: as of an error.
        shown: places besides metrics.json.
        everywhere: of every fold, baseline and seed, too.
        chance: value of a guess, if there is one.
    """

    def made(values: Callable[[Any, np.ndarray], np.ndarray]) -> Score:
        return Score(
            name=values.__name__,
            values=values,
            needs=needs,
            title=title,
            lower_is_better=lower_is_better,
            shown=frozenset(shown),
            everywhere=everywhere,
            within_fold=values.__name__,
            chance=chance,
        )

    return made


def fitting(scores: Iterable[Score], predictions: OfSubjects) -> tuple[Score, ...]:
    """Those that can be computed of the predictions, one for each class where so, in their order."""
    classes = () if isinstance(predictions, SubjectValues) else predictions.classes
    return tuple(one for found in scores if found.fits(predictions) for one in found.of_classes(classes))


def values_of(scores: Sequence[Score], predictions: OfSubjects, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that fit the predictions, for every row of weights.

    Args:
        scores: in the order wanted; what several of them share is computed once.
        predictions: of N subjects.
        weights: (R, N), how often each subject is in each resample.

    Returns:
        Name to (R,), NaN where a resample has no value.

    Raises:
        AdnextError: a score gives something else than one number per row.
    """
    found: dict[str, np.ndarray] = {}
    shared: dict[Any, np.ndarray | Mapping[str, np.ndarray]] = {}
    for one in fitting(scores, predictions):
        if one.values not in shared:
            shared[one.values] = one.values(predictions, weights)
        result = shared[one.values]
        values = np.asarray(result[one.part or one.name] if isinstance(result, Mapping) else result)
        if values.shape != (len(weights),) or values.dtype.kind not in "fiub":
            raise AdnextError(
                f"score {one.name!r} gives {values.dtype} of shape {values.shape}; it must give one number for each of "
                f"the {len(weights)} rows of weights"
            )
        found[one.name] = values
    return found


def require_score(found: object, name: str) -> Score:
    """What is registered under a name, as a score of that name.

    Raises:
        RegistryError: it is something else, or says what it needs in words that mean nothing.
    """
    if not isinstance(found, Score):
        raise RegistryError(
            f"the score {name!r} is registered as {type(found).__name__}; make it with adnext_plugin's decorator score"
        )
    if found.needs not in NEEDS:
        raise RegistryError(f"the score {name!r} needs {found.needs!r}, which is none of {', '.join(NEEDS)}")
    return replace(found, name=name, within_fold=name if found.within_fold is not None else None)
