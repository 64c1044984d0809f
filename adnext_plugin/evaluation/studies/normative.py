"""How far volumes of held-out people lie from those of normal people of their age and sex, in standard deviations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.subjects import SEXES

FEWEST_NORMAL = 20  # of a fold's training part, whose ageing is described by four numbers


def deviations(cohort: Cohort, columns: Sequence[str]) -> pd.DataFrame | None:
    """Age- and sex-adjusted z-scores.

    What is normal is learned in every fold from its training part alone: of people of the first of two classes, a
    regression of each volume on age, its square and sex, and the standard deviation about it. A column that is missing
    (age or sex) takes no part, and a person without a number has the training mean.

    Args:
        cohort: of two classes, of which the first is the normal one.
        columns: of its table, numbers.

    Returns:
        A row for each held-out case and fold, `case_id`, `subject_id`, `fold`, `target` and the columns; None where
        there are other than two classes, or a fold trains on too few normal people.
    """
    task, subjects = cohort.task, cohort.subjects.set_index("case_id")
    if len(task.classes) != 2 or not columns:
        return None
    volumes = subjects[list(columns)].apply(pd.to_numeric, errors="coerce").astype(float)
    tables = []
    for fold, parts in enumerate(cohort.splits):
        train, held_out = list(parts["train"]), list(parts["val"])
        known = volumes.loc[train].notna().all(axis=1) & (subjects.loc[train, task.target] == task.classes[0])
        normal = list(known.index[known])
        if subjects.loc[normal, "subject_id"].nunique() < FEWEST_NORMAL:
            return None
        terms = _terms(subjects, normal)
        inside, values = terms.loc[normal].to_numpy(), volumes.loc[normal].to_numpy()
        weights, _, rank, _ = np.linalg.lstsq(inside, values, rcond=None)
        spread = np.sqrt(((values - inside @ weights) ** 2).sum(axis=0) / max(1, len(normal) - int(rank)))
        away = volumes.loc[held_out].to_numpy() - terms.loc[held_out].to_numpy() @ weights
        found = pd.DataFrame(away / np.where(spread > 0, spread, np.nan), columns=list(columns))
        who = subjects.loc[held_out, ["subject_id", task.target]].rename(columns={task.target: "target"}).reset_index()
        tables.append(pd.concat([who.assign(fold=fold), found], axis=1))
    return pd.concat(tables, ignore_index=True)


def _terms(subjects: pd.DataFrame, normal: list[str]) -> pd.DataFrame:
    """1, age, age squared and sex of every case, about the means of normal people."""
    terms = pd.DataFrame({"one": 1.0}, index=subjects.index)
    if "age" in subjects and subjects.loc[normal, "age"].notna().any():
        decades = (subjects["age"] - subjects.loc[normal, "age"].mean()) / 10
        terms["age"], terms["age_squared"] = decades, decades**2
    if "sex" in subjects:
        sex = subjects["sex"].map(SEXES)
        if sex.loc[normal].nunique() == 2:
            terms["sex"] = sex - sex.loc[normal].mean()
    return terms.fillna(terms.loc[normal].mean())
