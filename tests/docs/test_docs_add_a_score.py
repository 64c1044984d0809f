"""The score of CONTRIBUTING.md, installed as another package would be, is seen wherever scores are."""

import json
import re
from pathlib import Path

import pytest

from adnext_plugin.cli import evaluate
from adnext_plugin.registry import SCORES

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
SECTION = PAGE.partition("\n## Add a score\n")[2].partition("\n## ")[0]
CODE, DECLARATION = re.findall(r"^```\w*\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
TITLE = "Youden's J, at the fold's threshold"


def test_a_score_of_ones_own_is_in_the_metrics_the_terminal_and_the_report(trained, install, capsys) -> None:
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 15
    name = DECLARATION.partition("=")[0].strip()
    evaluated = trained.run / "crossval_results"
    before = json.loads((evaluated / "metrics.json").read_text())
    install("my_scores", CODE, {SCORES: {name: name}})
    arguments = ["301", "-tr", "ADNeXtTrainer_T", "--resamples", "200"]
    assert evaluate.main(arguments) == 0
    metrics = json.loads((evaluated / "metrics.json").read_text())
    found = metrics["scores"][name]
    at_threshold = [
        metrics["scores"][f"{rate}_at_selection_threshold"]["value"] for rate in ("sensitivity", "specificity")
    ]
    assert found["value"] == pytest.approx(sum(at_threshold) - 1)
    assert found["low"] <= found["value"] <= found["high"]
    assert list(metrics["scores"])[-1] == name and name in metrics["folds"][0]["scores"]
    assert name in metrics["baselines"][0]["scores"] and name in metrics["means_of_folds"]
    assert TITLE in capsys.readouterr().out
    assert "Youden&#39;s J, at the fold&#39;s threshold" in (evaluated / "report.html").read_text()
    # what is built in is what it was
    values = {key: score["value"] for key, score in metrics["scores"].items() if key != name}
    assert values == {key: score["value"] for key, score in before["scores"].items()}
