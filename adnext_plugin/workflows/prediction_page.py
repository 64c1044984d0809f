"""`predictions.html` of `adnext_predict`: what is shown of each scan is gathered while it is predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import AdnextError
from adnext_plugin.files import replacing
from adnext_plugin.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from adnext_plugin.prediction.description import ModelDescription
    from adnext_plugin.prediction.ensemble import Prediction, PreparedScan
    from adnext_plugin.prediction.inputs import ScanInput
    from adnext_plugin.prediction.results import Outcome
    from adnext_plugin.report.predicted import PredictedScan

FILE = "predictions.html"


class Pictures:
    """Pictures of scans as networks see them, by scan; of as many as a page shows."""

    def __init__(self) -> None:
        self.of: dict[ScanInput, str] = {}

    def add(self, scan: "ScanInput", prepared: "PreparedScan", row: "pd.DataFrame", found: "Prediction") -> None:
        """Draw one scan."""
        from adnext_plugin.report.brains import picture_of
        from adnext_plugin.report.predicted import MOST

        if len(self.of) < MOST:
            self.of[scan] = picture_of(prepared.image_czyx[0])


def write_page(
    outcomes: "Sequence[Outcome]", model: "ModelDescription", pictures: Pictures, run: Path, folder: Path
) -> Path:
    """Write the page.

    Args:
        outcomes: in the order of the scans.
        model: what predicted them.
        pictures: drawn meanwhile.
        run: where the model is; of a run, what it said of held-out people is known.
        folder: for the page.
    """
    from adnext_plugin.prediction.results import NOTICE
    from adnext_plugin.report.predicted import PredictionFacts, prediction_page

    facts = PredictionFacts(
        scans=[_scan(scan, outcome, model, pictures) for scan, outcome in outcomes],
        model=model.in_words,
        notice=NOTICE,
        stamps=tuple(model.stamps),
        threshold=model.threshold,
        held_out=_held_out(RunFolder(run), model),
    )
    path = folder / FILE
    with replacing(path) as temporary:
        temporary.write_text(prediction_page(facts), encoding="utf-8")
    return path


def _scan(
    scan: "ScanInput", outcome: "Prediction | AdnextError", model: "ModelDescription", pictures: Pictures
) -> "PredictedScan":
    from adnext_plugin.report.predicted import PredictedScan

    if isinstance(outcome, AdnextError):
        return PredictedScan(name=scan.case_id, answers={}, error=" ".join(str(outcome).split()))
    task = model.plan.known_task
    return PredictedScan(
        name=scan.case_id,
        picture=pictures.of.get(scan, ""),
        answers=dict(zip(task.classes or (task.column,), outcome.answer.tolist(), strict=True)),
        called=None if outcome.called is None else task.classes[outcome.called],
        warnings=outcome.warnings,
    )


def _held_out(run: RunFolder, model: "ModelDescription") -> "dict[str, np.ndarray]":
    """What each network said, calibrated, of the people whom it alone had not seen; nothing where that is gone."""
    import numpy as np
    import pandas as pd
    from scipy.special import softmax

    from adnext_plugin.csv_files import read_csv

    task = model.plan.known_task
    columns = [f"logit_{name}" for name in task.classes] or ["prediction"]
    tables = []
    for fold in model.folds:
        path = run.fold(fold.name).predictions_file
        if not fold.name.isdigit() or not path.is_file():
            return {}
        texts = ["part", *(["target"] if task.classes else [])]
        try:
            table = read_csv(path, texts=texts, needed=texts, numbers=columns, remedy="train the fold again")
        except AdnextError:
            return {}
        table = table[table["part"] == "val"]
        values = table[columns].to_numpy(dtype=float)
        answers = softmax(values / fold.temperature, axis=1)[:, -1] if task.classes else values[:, 0]
        tables.append(pd.DataFrame({"answer": answers, "target": table["target"] if task.classes else task.column}))
    together = pd.concat(tables)
    names = task.classes or (task.column,)
    found = {name: np.sort(together.loc[together["target"] == name, "answer"].to_numpy()) for name in names}
    return {name: values for name, values in found.items() if len(values)}
