"""What `findings.json` says of a method's maps: whether to believe them, in numbers and in words."""

from typing import Any

from adnext_plugin.explanations.agreement import Agreement
from adnext_plugin.findings import Estimate
from adnext_plugin.records import record


@record
class LocalisationSummary:
    """Means over people with 95 % intervals, beside what a map reaches that knows nothing.

    `chance` is the share of the brain that the true regions are. `above_shuffled` is average precision less that of
    maps by the same networks with all weights dealt anew, which know the scan, but nothing that was learned; of the
    cases that were checked.
    """

    people: int
    chance: float
    average_precision: Estimate
    hit: Estimate
    mass_share: Estimate
    above_chance: Estimate
    above_shuffled: Estimate | None = None


@record
class ExplanationSummary:
    """Of one method, run and target.

    `groups`: people by class, "all" among them; of each there is a mean map in MNI152 where `mni` says how it came
    there. `regions`: what they are called. `checked`: people whose maps were checked. `checks`: means over them, by
    column of the table. `agreement`: between "folds", "seeds" and "sessions". `failures`: where the method fails;
    `findings`: everything in words, failures among it.
    """

    run: str
    method: str
    settings: dict[str, Any]
    target: str
    cases: int
    people: int
    groups: dict[str, int]
    mni: str | None
    regions: str | None
    checked: int
    checks: dict[str, float]
    agreement: dict[str, Agreement]
    localisation: LocalisationSummary | None
    failures: tuple[str, ...]
    findings: tuple[str, ...]
