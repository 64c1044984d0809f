"""How a network does in parts of the cohort. Where too few people are, nothing is said."""

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.subjects.characteristics import FEWEST, known, people_of
from adnext_plugin.evaluation.subjects.values import OfSubjects, SubjectValues
from adnext_plugin.evaluation.uncertainty.delong import area_interval
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.findings import Estimate, Subgroup

COLUMNS = ("sex", "site", "scanner", "field_strength")
AGE_EDGES = (40, 60, 70, 80)


def describe_subgroups(predictions: OfSubjects, subjects: pd.DataFrame, resamples: int = 1000) -> tuple[Subgroup, ...]:
    """Score everybody, and subgroups by sex, age band, site, scanner and field strength, as far as they are known.

    The pooled area sets subjects of different folds against each other, whose networks may be on different scales: it
    is for comparing subgroups, which are too small to be scored fold by fold.

    Args:
        predictions: of held-out subjects.
        subjects: content of `subjects.csv`; what differs between a subject's scans is taken from the first.
        resamples: of the bootstrap.
    """
    people = people_of(predictions, subjects)
    found = [_describe("all", "everybody", predictions, resamples)]
    for column, values in _groupings(people):
        for value in dict.fromkeys(sorted(values[values != ""])):
            here = _rows(predictions, values == value)
            found.append(_describe(column, value, here, resamples))
    return tuple(found)


def _groupings(people: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for column in COLUMNS:
        values = known(people, column)
        if values is not None:
            yield column, values
    if "age" in people and people["age"].notna().any():
        names = [f"{low} to {high - 1}" for low, high in pairwise((0, *AGE_EDGES))]
        by_band = np.array([*names, f"{AGE_EDGES[-1]} and over"])
        bands = by_band[np.digitize(people["age"].to_numpy(dtype=float), AGE_EDGES).clip(max=len(AGE_EDGES))]
        yield "age", np.where(people["age"].notna(), bands, "")


def _describe(column: str, value: str, here: OfSubjects, resamples: int) -> Subgroup:
    if isinstance(here, SubjectValues):
        counts: tuple[int, ...] = (len(here.targets),)
    else:
        counts = tuple(np.bincount(here.targets, minlength=len(here.classes)).tolist())
    score = None
    if min(counts) >= FEWEST:
        score = _score(here, resamples)
    return Subgroup(column=column, value=value, subjects_by_class=counts, score=score)


def _score(here: OfSubjects, resamples: int) -> Estimate:
    if isinstance(here, SubjectValues):
        return estimates(here, resamples_of(here, resamples))["mae"]
    if len(here.classes) == 2:
        area = area_interval(here.targets == 1, here.probabilities[:, 1])
        return Estimate(value=area.value, low=area.low, high=area.high, note=area.note)
    return estimates(here, resamples_of(here, resamples))["auc_pooled"]


def _rows(predictions: OfSubjects, chosen: np.ndarray) -> OfSubjects:
    values = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    return replace(
        predictions, **{name: value[chosen] for name, value in values.items() if isinstance(value, np.ndarray)}
    )
