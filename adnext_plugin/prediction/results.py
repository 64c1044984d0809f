"""Predictions as the files `predictions.csv`, one row per scan, and `predictions.json`, which says all there is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adnext_plugin.csv_files import write_csv
from adnext_plugin.errors import AdnextError
from adnext_plugin.files import write_json
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.prediction.ensemble import Prediction
from adnext_plugin.prediction.inputs import ScanInput
from adnext_plugin.records import to_json

Outcome = tuple[ScanInput, Prediction | AdnextError]
NOTICE = (
    "For research. The probabilities are calibrated for people like those trained on; of people whom the networks were "
    "trained on they say nothing."
)


def write_results(
    outcomes: Sequence[Outcome], model: ModelDescription, not_checked: Sequence[str], folder: Path
) -> None:
    """Write both files, each beside its place first.

    Args:
        outcomes: in the order they are to be listed in.
        model: that made them.
        not_checked: what could not be compared with the training scans.
        folder: to write into.
    """
    table = predictions_table(outcomes, model)
    write_csv(table, folder / "predictions.csv")
    content = {
        "notice": NOTICE,
        **({"warning": "; ".join(model.stamps)} if model.stamps else {}),
        "model": {
            "dataset": model.dataset,
            "trainer": model.trainer,
            "task": to_json(model.plan.task),
            "threshold": model.threshold,
            "folds": [to_json(fold) for fold in model.folds],
            "trained_with": model.trained_with,
        },
        "not_checked": list(not_checked),
        "failed": sum(isinstance(outcome, AdnextError) for _, outcome in outcomes),
        "scans": [{**_who(scan), **_json_entry(outcome, model)} for scan, outcome in outcomes],
    }
    write_json(content, folder / "predictions.json")


def predictions_table(outcomes: Sequence[Outcome], model: ModelDescription) -> pd.DataFrame:
    """What `predictions.csv` says: a row per scan, in this order."""
    return pd.DataFrame([{**_who(scan), **_csv_columns(outcome, model)} for scan, outcome in outcomes])


def reasons(outcomes: Sequence[Outcome]) -> tuple[tuple[str, str], ...]:
    """Why scans failed, each in one line, by case id."""
    return tuple((scan.case_id, one_line(outcome)) for scan, outcome in outcomes if isinstance(outcome, AdnextError))


def _who(scan: ScanInput) -> dict[str, str]:
    return {
        "case_id": scan.case_id,
        "subject_id": scan.subject_id,
        "session_id": scan.session_id,
        "file": str(scan.image),
    }


def _csv_columns(outcome: Prediction | AdnextError, model: ModelDescription) -> dict:
    classes = model.plan.known_task.classes
    names = [f"prob_{name}" for name in classes] or ["prediction"]
    if isinstance(outcome, AdnextError):
        return {**dict.fromkeys([*names, "spread"]), "error": one_line(outcome)}
    answers = dict(zip(names, outcome.answer.tolist(), strict=True))
    called: dict[str, str | float] = {} if outcome.called is None else {"called": classes[outcome.called]}
    if model.threshold is not None:
        called["threshold"] = model.threshold  # without which 0.45 beside "AD" looks like a mistake
    return {
        **answers,
        # of the class that is called last, or of the number
        "spread": float(outcome.spread[-1]),
        **called,
        "feature_distance": outcome.feature_distance,
        "warnings": "; ".join(outcome.warnings),
        "error": "",
    }


def _json_entry(outcome: Prediction | AdnextError, model: ModelDescription) -> dict:
    if isinstance(outcome, AdnextError):
        return {"error": one_line(outcome)}
    classes = model.plan.known_task.classes
    answer: dict[str, Any]
    if outcome.called is not None:
        answer = {
            "probabilities": dict(zip(classes, outcome.answer.tolist(), strict=True)),
            "called": classes[outcome.called],
            "logits_by_fold": {name: values.tolist() for name, values in outcome.outputs.items()},
        }
    else:
        answer = {
            "prediction": float(outcome.answer[0]),
            "predictions_by_fold": {name: float(values[0]) for name, values in outcome.outputs.items()},
        }
    return {
        **answer,
        "spread_over_folds": outcome.spread.tolist(),
        "feature_distance": outcome.feature_distance,
        "warnings": list(outcome.warnings),
    }


def one_line(error: AdnextError) -> str:
    """Why a scan failed, without line breaks."""
    return " ".join(str(error).split())
