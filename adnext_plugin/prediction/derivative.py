"""Predictions and brain masks as a BIDS derivative: a folder for every person, with sidecars that say what was done.

`sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz` and `.json`, where a brain was extracted, and
`sub-01_ses-a_desc-adnext_prediction.json`. The standard has no suffix for predictions, so `.bidsignore` names those.

Source of the layout: BIDS specification 1.9.0, derivatives.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.files import replacing, write_json
from adnext_plugin.importing.sources.bids_names import BidsName
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.prediction.ensemble import Prediction, PreparedScan
from adnext_plugin.prediction.inputs import ScanInput
from adnext_plugin.prediction.results import NOTICE, Outcome, one_line

BIDS_VERSION = "1.9.0"
DESCRIPTION, IGNORED = "dataset_description.json", ".bidsignore"
OURS = ("*_prediction.json", "predictions.*", "**/predictions.*")  # that the standard does not know
MASK, ANSWER = "desc-brain_mask", "desc-adnext_prediction"
NOT_OF_A_LABEL = re.compile(r"[^A-Za-z0-9]+")


class Derivative:
    """A derivative in the making.

    Args:
        folder: of it; is made when it is begun.
        scans: all that are to be predicted.
        model: that predicts them.
        root: of the BIDS dataset that the scans are of; None where they are of none.

    Raises:
        SettingsError: two scans would have files of one name.
    """

    def __init__(self, folder: Path, scans: Sequence[ScanInput], model: ModelDescription, root: Path | None) -> None:
        self.folder = folder
        self._model, self._root = model, root
        self._stems = _stems(scans)
        self._with_mask: set[ScanInput] = set()

    def begin(self) -> None:
        """Say what the folder is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {
            "Name": "adnext_plugin predictions",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {"Name": "adnext_plugin", "Version": version("adnext_plugin"), "Description": self._model.in_words}
            ],
        }
        if self._root is not None:
            content["DatasetLinks"] = {"raw": _link(self._root, self.folder)}
        write_json(content, self.folder / DESCRIPTION)
        with replacing(self.folder / IGNORED) as temporary:
            temporary.write_text("\n".join(OURS) + "\n", encoding="utf-8")

    def see(self, scan: ScanInput, prepared: PreparedScan, _row: pd.DataFrame, _found: Prediction) -> None:
        """Keep the mask of a scan, on its own grid, where its brain was extracted."""
        properties = prepared.properties
        if properties is None or properties.mask is None or not Path(properties.mask).is_file():
            return
        mask = self._file(scan, MASK, ".nii.gz")
        with replacing(mask) as temporary:
            shutil.copyfile(properties.mask, temporary)
        self._with_mask.add(scan)
        content = {
            "Type": "Brain",
            "Sources": self._sources(scan),
            "SpatialReference": "orig",
            "Method": self._model.plan.preprocessing.brain_extraction,
            "BrainLitres": properties.brain_litres,
        }
        write_json(content, self._file(scan, MASK, ".json"))

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write what was predicted of every scan, or why it was not."""
        for scan, outcome in outcomes:
            if scan not in self._with_mask:  # no mask of an earlier prediction stands beside it
                for ending in (".nii.gz", ".json"):
                    self._file(scan, MASK, ending).unlink(missing_ok=True)
            write_json(self._answer(scan, outcome), self._file(scan, ANSWER, ".json"))

    def _answer(self, scan: ScanInput, outcome: Prediction | AdnextError) -> dict[str, Any]:
        task = self._model.plan.known_task
        content: dict[str, Any] = {"Description": f"{task.in_words}, by {self._model.in_words}"}
        content["Sources"] = self._sources(scan)
        if isinstance(outcome, AdnextError):
            return {**content, "Error": one_line(outcome)}
        if outcome.called is None:
            content |= {"Target": task.column, "Prediction": float(outcome.answer[0])}
        else:
            content["Probabilities"] = dict(zip(task.classes, outcome.answer.tolist(), strict=True))
            content["Called"] = task.classes[outcome.called]
            if self._model.threshold is not None:
                content["Threshold"] = self._model.threshold
        content["SpreadOverFolds"] = outcome.spread.tolist()
        content["Warnings"] = list(outcome.warnings)
        content["Stamps"] = list(self._model.stamps)
        return {**content, "Notice": NOTICE}

    def _sources(self, scan: ScanInput) -> list[str]:
        if self._root is None or not scan.image.is_relative_to(self._root):
            return [scan.image.name]
        return [f"bids:raw:{scan.image.relative_to(self._root).as_posix()}"]

    def _file(self, scan: ScanInput, what: str, ending: str) -> Path:
        entities, stem = self._stems[scan]
        session = [f"ses-{entities['ses']}"] if "ses" in entities else []
        folder = self.folder.joinpath(f"sub-{entities['sub']}", *session, "anat")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{stem}_{what}{ending}"


def _stems(scans: Sequence[ScanInput]) -> dict[ScanInput, tuple[Mapping[str, str], str]]:
    """Entities of each scan, and the beginning of its files' names."""
    found: dict[ScanInput, tuple[Mapping[str, str], str]] = {}
    first: dict[str, ScanInput] = {}
    for scan in scans:
        entities = _entities(scan)
        stem = "_".join(f"{key}-{value}" for key, value in entities.items())
        # file systems of some users do not tell upper from lower case
        earlier = first.setdefault(stem.lower(), scan)
        if earlier is not scan:
            raise SettingsError(
                f"--bids-derivatives: {earlier.image} and {scan.image} would both be {stem}; give them other sessions, "
                "or predict one after the other into two folders"
            )
        found[scan] = (entities, stem)
    return found


def _entities(scan: ScanInput) -> dict[str, str]:
    """Those of the image's name if it is one of BIDS; else person and session, as labels may be written."""
    named = dict(BidsName.of(scan.image).entities)
    if named.get("sub"):
        named.pop("desc", None)  # of which a name has one
        return named
    subject = _label(scan.subject_id.removeprefix("sub-") or scan.case_id)
    session = _label(scan.session_id.removeprefix("ses-")) if scan.session_id else ""
    if not subject:
        raise SettingsError(f"--bids-derivatives: {scan.image} has no name that a label could be made of; rename it")
    return {"sub": subject, **({"ses": session} if session else {})}


def _label(text: str) -> str:
    if not text.isascii():
        from anyascii import anyascii

        text = anyascii(text)
    return NOT_OF_A_LABEL.sub("", text)


def _link(root: Path, folder: Path) -> str:
    """From the derivative to its dataset, without naming folders of this machine where that can be."""
    try:
        return Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return root.resolve().as_uri()
