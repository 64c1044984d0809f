"""`adnext_compare` on runs that `adnext_evaluate` has scored."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from adnext_plugin.cli import compare, evaluate
from adnext_plugin.run_records import FoldSummary, write_summary
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.subjects import read_dataset

DATASET = "Dataset301_Toy"


def _write_run(toy, trainer: str, gain: float, protocol: str = "honest") -> Path:
    """What training would leave of a network whose logits of the truth are larger by `gain`, evaluated."""
    run = toy.results / DATASET / f"{trainer}__ADNeXtPlans__3d_fullres"
    task, subjects = read_dataset(toy.preprocessed / DATASET)
    by_case = subjects.set_index("case_id")
    generator = np.random.default_rng(len(trainer))
    stamps = TrainerSettings(protocol=protocol, skip_audit="one household" if protocol == "paper" else None).warnings
    stamp = {"warning": "; ".join(stamps)} if stamps else {}
    for number, fold in enumerate(ensure_splits(toy.preprocessed / DATASET, subjects, task)):
        parts = [(part, case) for part in ("val", "selection") for case in fold[part]]
        rows = by_case.loc[[case for _, case in parts]].reset_index()
        is_truth = rows["diagnosis"].to_numpy()[:, None] == np.array(task.classes)
        logits = generator.normal(size=is_truth.shape) + gain * is_truth
        table = rows[["case_id", "subject_id", "session_id"]].assign(fold=number, target=rows["diagnosis"])
        table.insert(4, "part", [part for part, _ in parts])
        for index, name in enumerate(task.classes):
            table[f"logit_{name}"] = logits[:, index]
            table[f"prob_{name}"] = softmax(logits, axis=1)[:, index]
        folder = run / f"fold_{number}" / "validation"
        folder.mkdir(parents=True)
        table.to_csv(folder / "predictions.csv", index=False)
        summary = FoldSummary(
            trainer=trainer,
            protocol=protocol,
            fold=number,
            epochs=2,
            best_epoch=1,
            evaluated_checkpoint="checkpoint_best.pth",
            seed=42,
            **stamp,
        )
        write_summary(summary, folder / "summary.json")
    for source, name in (("dataset.json", "dataset.json"), ("ADNeXtPlans.json", "plans.json")):
        (run / name).write_text((toy.preprocessed / DATASET / source).read_text())
    assert evaluate.main([DATASET, "-tr", trainer, "--resamples", "100"]) == 0
    return run


def _is_right(run: Path) -> np.ndarray:
    """Which subjects are called rightly at the thresholds that the evaluation chose on `selection`."""
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    table = pd.read_csv(run / "crossval_results" / "predictions.csv")
    means = table.groupby(["fold", "subject_id", "target"])["prob_AD"].mean().reset_index()
    thresholds = means["fold"].map({fold["fold"]: fold["threshold"] for fold in metrics["folds"]})
    return ((means["prob_AD"] >= thresholds) == (means["target"] == "AD")).to_numpy()


def test_runs_are_compared_by_name_folder_or_path_and_the_result_is_filed(toy, tmp_path, capsys) -> None:
    runs = [_write_run(toy, "Good", 9.0), _write_run(toy, "Poor", 0.1), _write_run(toy, "Cheated", 1.0, "paper")]
    capsys.readouterr()
    output = tmp_path / "comparison.json"
    arguments = ["301", "Good", runs[1].name, str(runs[2]), "--resamples", "200", "--output", str(output)]
    assert compare.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Cheated: OPTIMISTIC") and "AUDIT SKIPPED" in printed and "one household" not in printed
    assert "16 held-out subjects (8 CN, 8 AD) in 4 folds, the same for all runs" in printed
    assert "Good against Poor" in printed and "Poor against Cheated" in printed
    content = json.loads(output.read_text())
    assert [run["name"] for run in content["runs"]] == ["Good", "Poor", "Cheated"]
    for run, folder in zip(content["runs"], runs, strict=True):
        metrics = json.loads((folder / "crossval_results" / "metrics.json").read_text())
        value = metrics["scores"]["auc_mean_of_folds"]["value"]
        assert run["auc_mean_of_folds"]["value"] == pytest.approx(value, abs=1e-12)
    first, second = (_is_right(folder) for folder in runs[:2])
    discordant = content["pairs"][0]["tests"]["mcnemar"]
    assert (discordant["only_first"], discordant["only_second"]) == ((first & ~second).sum(), (second & ~first).sum())
    assert content["pairs"][0]["tests"]["auc_difference"]["value"] > 0
    assert len(content["warnings"]) == 1 and len(content["splits_sha256"]) == 64


def test_what_cannot_be_compared_is_one_line(toy, capsys) -> None:
    run = _write_run(toy, "Good", 2.0)
    other = _write_run(toy, "Other", 1.0)
    metrics = other / "crossval_results" / "metrics.json"
    changed = json.loads(metrics.read_text()) | {"splits_sha256": "0" * 64}
    metrics.write_text(json.dumps(changed))
    (toy.results / DATASET / "Bare__ADNeXtPlans__3d_fullres").mkdir()
    capsys.readouterr()
    for arguments, message in (
        (["301", "Good"], "needs at least two runs"),
        (["301", "Good", "Goot"], "did you mean 'Good__ADNeXtPlans__3d_fullres'"),
        (["301", "Good", run.name], "is named twice"),
        (["301", "Good", "Bare"], "evaluate the run with adnext_evaluate"),
        (["301", "Good", "Other"], "only runs on the same folds can be compared"),
        (["301", "Good", "Other", "--resamples", "9"], "at least 100"),
    ):
        assert compare.main(arguments) == 2
        # that the runs do not say what they were trained on is a warning
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("error: ") and message in line
