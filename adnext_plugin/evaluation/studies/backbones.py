"""Networks under equal conditions: which is best, by how much, and whether pre-training keeps the order."""

from collections.abc import Mapping, Sequence

from scipy.stats import spearmanr

from adnext_plugin.findings import Estimate
from adnext_plugin.records import record

FEWEST = 3  # networks of which an order can be compared with another


@record
class Backbone:
    """One network from random, or from pre-trained, weights, what it costs and what it reached.

    `steps` are of training in each fold. `trained_s` is what all folds took on the clock, validation included; None
    where they had been trained before. `score` has its interval over people.
    """

    network: str
    pretrained: bool
    run: str
    parameters: int
    step_s: float
    peak_bytes: int | None
    steps: int
    trained_s: float | None
    score: Estimate

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"{self.network}, pre-trained" if self.pretrained else self.network


@record
class BackbonePair:
    """Two of them by name, the first less the second on the same people, and p by Holm's method over all pairs."""

    first: str
    second: str
    difference: Estimate
    p_holm: float | None


def ranked(backbones: Sequence[Backbone]) -> tuple[Backbone, ...]:
    """The best first; those without a score last."""
    return tuple(sorted(backbones, key=lambda one: -1.0 if one.score.value is None else one.score.value, reverse=True))


def rank_correlation(backbones: Sequence[Backbone]) -> float | None:
    """Spearman's correlation of scores from random and from pre-trained weights, over networks that have both.

    None where they are fewer than three, or all of one kind reached the same.
    """
    by_kind: Mapping[bool, dict[str, float]] = {True: {}, False: {}}
    for one in backbones:
        if one.score.value is not None:
            by_kind[one.pretrained][one.network] = one.score.value
    both = sorted(by_kind[True].keys() & by_kind[False].keys())
    sides = [[by_kind[kind][network] for network in both] for kind in (False, True)]
    if len(both) < FEWEST or any(len(set(side)) == 1 for side in sides):
        return None
    return float(spearmanr(*sides).statistic)
