"""Whether to believe maps, from the numbers of their table: means over people, in words, with failures named."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adnext_plugin.findings import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.explanations.agreement import Agreement
    from adnext_plugin.explanations.summary import LocalisationSummary

MOST_ALIKE = 0.5  # rank correlation with the map of shuffled weights, from which a method is said to fail
LEAST_AGREEMENT = 0.5  # intraclass correlation, below which agreement is poor (Koo and Li 2016)
BETWEEN = {
    "folds": "by the networks of all folds",
    "seeds": "by the networks of all seeds",
    "sessions": "of two visits",
}
CHECKS = (
    "other_folds",
    "other_seeds",
    "new_head",
    "all_new",
    "deletion",
    "random_deletion",
    "insertion",
    "random_insertion",
)


def of_people(table: "pd.DataFrame") -> "pd.DataFrame":
    """Numbers of the table, means over the scans of each person."""
    return table.drop(columns=["case_id", "fold", "called"]).groupby("subject_id").mean()


def checked(numbers: "pd.DataFrame") -> tuple[int, dict[str, float]]:
    """How many people were checked, and the means over them of what is known."""
    if "all_new" not in numbers:
        return 0, {}
    rows = numbers.dropna(subset=["all_new"])
    means = rows[[name for name in CHECKS if name in rows]].mean().dropna()
    return len(rows), {str(name): float(value) for name, value in means.items()}


def localised(numbers: "pd.DataFrame") -> "LocalisationSummary | None":
    """How well the true regions are found, where they are known."""
    from adnext_plugin.explanations.agreement import mean_with_interval
    from adnext_plugin.explanations.summary import LocalisationSummary

    if "average_precision" not in numbers:
        return None
    rows = numbers.dropna(subset=["average_precision"])
    both = rows.dropna(subset=["shuffled_average_precision"]) if "shuffled_average_precision" in rows else rows.iloc[:0]
    differences = (both["average_precision"] - both.get("shuffled_average_precision", 0.0)).to_numpy()
    return LocalisationSummary(
        people=len(rows),
        chance=float(rows["chance"].mean()),
        **{name: mean_with_interval(rows[name].to_numpy()) for name in ("average_precision", "hit", "mass_share")},
        above_chance=mean_with_interval((rows["average_precision"] - rows["chance"]).to_numpy()),
        above_shuffled=mean_with_interval(differences) if len(differences) else None,
    )


def findings(
    method: str,
    people: int,
    means: Mapping[str, float],
    agreements: Mapping[str, "Agreement"],
    found: "LocalisationSummary | None",
) -> tuple[list[str], list[str]]:
    """Everything in words, and of that the failures."""
    lines, failures = _of_checks(method, people, means) if people else ([], [])
    for more in (_of_agreement(method, agreements), ([], []) if found is None else _of_localisation(method, found)):
        lines += more[0]
        failures += more[1]
    return [*lines, *failures], failures


def _of_checks(method: str, people: int, means: Mapping[str, float]) -> tuple[list[str], list[str]]:
    lines, failures = [f"Checked in {people} people; correlations are of ranks over the brain"], []
    for name, networks in (("other_folds", "all folds"), ("other_seeds", "all seeds")):
        if name in means:
            lines.append(f"Maps by the networks of {networks} agree with {means[name]:.2f} (1: alike)")
    lines.append(
        f"Maps of shuffled weights are like these with {means['new_head']:.2f} (head), {means['all_new']:.2f} (all); "
        "0 where a map is of what was learned"
    )
    if means["all_new"] > MOST_ALIKE:
        failures.append(f"{method} FAILS here: its maps show the scans rather than what the networks have learned")
    lines.append(
        f"Mean score while voxels are taken out in the map's order {means['deletion']:.3f}, at random "
        f"{means['random_deletion']:.3f}; while they are put in {means['insertion']:.3f}, at random "
        f"{means['random_insertion']:.3f}"
    )
    if means["deletion"] >= means["random_deletion"] and means["insertion"] <= means["random_insertion"]:
        failures.append(f"{method} FAILS here: voxels that it ranks first count no more than any others")
    return lines, failures


def _of_agreement(method: str, agreements: Mapping[str, "Agreement"]) -> tuple[list[str], list[str]]:
    lines, failures = [], []
    for kind, found in agreements.items():
        own = found.over_regions
        assert own.value is not None  # of people there are
        beside = "" if found.of_strangers is None else f"; of different people {found.of_strangers:.2f}"
        people = "" if found.over_people is None else f"; what sets people apart, {found.over_people:.2f}"
        lines.append(
            f"Regions of the maps {BETWEEN[kind]}, {found.people} people: ICC {_estimate(own)}{beside}{people}"
        )
        if own.value < LEAST_AGREEMENT:
            failures.append(f"{method} FAILS here: maps {BETWEEN[kind]} show different regions (ICC {own.value:.2f})")
    return lines, failures


def _of_localisation(method: str, found: "LocalisationSummary") -> tuple[list[str], list[str]]:
    lines, failures = (
        [
            f"True regions in {found.people} people: average precision {_estimate(found.average_precision, 3)}, share "
            f"of the map {_estimate(found.mass_share, 3)}, peak inside {_estimate(found.hit, 2)}; chance is "
            f"{found.chance:.3f} of each",
            f"Average precision above chance: {_estimate(found.above_chance, 3)}",
        ],
        [],
    )
    if not (found.above_chance.low or 0) > 0:
        failures.append(f"{method} FAILS here: it does not find the true regions more than chance would")
    if found.above_shuffled is not None:
        lines.append(f"Average precision above that of shuffled weights: {_estimate(found.above_shuffled, 3)}")
        if not (found.above_shuffled.low or 0) > 0:
            failures.append(f"{method} FAILS here: it finds the true regions no better than without what was learned")
    return lines, failures


def _estimate(found: Estimate, digits: int = 2) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
