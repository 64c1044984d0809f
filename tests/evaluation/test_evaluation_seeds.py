"""Several seeds: their scores lie beside each other, with a spread of their own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.studies.seeds import spread_over_seeds
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def test_the_spread_over_seeds_is_that_of_their_scores() -> None:
    generator = np.random.default_rng(0)
    ids = [f"s{index:02d}" for index in range(60)]
    frame = pd.DataFrame({"subject_id": ids, "fold": np.arange(60) % 3, "part": "val"})
    frame["target"] = np.where(generator.random(60) < 0.4, "AD", "CN")
    tables = {}
    for seed in (42, 43, 44):
        risk = generator.random(60)
        tables[seed] = frame.assign(prob_CN=1 - risk, prob_AD=risk)
    spread = spread_over_seeds({seed: of_subjects(table, TASK) for seed, table in tables.items()})
    areas = [roc_auc_score(table["target"] == "AD", table["prob_AD"]) for table in tables.values()]
    found = spread.scores["auc_pooled"]
    assert spread.seeds == (42, 43, 44)
    assert found.by_seed == pytest.approx(areas)
    assert found.mean == pytest.approx(np.mean(areas))
    assert found.standard_deviation == pytest.approx(pd.Series(areas).std())
    mean_risk = np.mean([table["prob_AD"] for table in tables.values()], axis=0)
    assert spread.together["auc_pooled"].value == pytest.approx(roc_auc_score(frame["target"] == "AD", mean_risk))
    assert (found.lowest, found.highest) == pytest.approx((min(areas), max(areas)))
