"""Features of held-out scans: of the right network, and on to what a probe makes of them."""

import json

import numpy as np
import pandas as pd

from adnext_plugin.cli import evaluate
from adnext_plugin.cohort import Cohort
from adnext_plugin.files import read_json
from adnext_plugin.prediction.held_out_features import held_out_features
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.training.weights import read_checkpoint


def test_features_are_what_each_folds_own_network_answers_from(trained) -> None:
    dataset_folder = trained.workspace.preprocessed / "Dataset301_Toy"
    seen = held_out_features(RunFolder(trained.run), Cohort.open(dataset_folder), "cpu")
    people = pd.read_csv(dataset_folder / "subjects.csv").set_index("case_id").loc[list(seen.case_ids)]
    assert len(seen.case_ids) == len(set(seen.case_ids)) == 17
    for fold in range(4):
        here = seen.folds == fold
        summary = read_json(trained.run / f"fold_{fold}" / "validation" / "summary.json")
        weights = read_checkpoint(trained.run / f"fold_{fold}" / summary["evaluated_checkpoint"])["network_weights"]
        last = {key.rpartition(".")[2]: weights[key].numpy() for key in weights if "head.seg_layers.1." in key}
        table = pd.read_csv(trained.run / f"fold_{fold}" / "validation" / "predictions.csv").set_index("case_id")
        logits = table.loc[np.array(seen.case_ids)[here], ["logit_CN", "logit_AD"]].to_numpy()
        # what the last layer leaves unexplained of the logits comes from age and sex
        rest = logits - seen.features[here] @ last["weight"].T - last["bias"]
        known = np.stack([np.ones(here.sum()), people["age"][here], people["sex"][here] == "M"], axis=1)
        fitted = known @ np.linalg.lstsq(known, rest)[0]
        np.testing.assert_allclose(rest, fitted, atol=1e-4)


def test_a_probe_is_asked_for_by_column_and_says_nothing_of_few_people(trained, capsys) -> None:
    arguments = ["301", "-tr", "ADNeXtTrainer_T", "--resamples", "100", "-device", "cpu", "--probe"]
    assert evaluate.main([*arguments, "seks"]) == 2
    assert "no column 'seks'; known: age" in capsys.readouterr().err
    assert evaluate.main([*arguments, "sex"]) == 0
    assert "sex: too few subjects of two classes" in capsys.readouterr().out
    metrics = json.loads((trained.run / "crossval_results" / "metrics.json").read_text())
    assert [one["column"] for one in metrics["probes"]] == ["sex"]
    assert 'id="confounds"' in (trained.run / "crossval_results" / "report.html").read_text()
