"""On which data a fold was trained: `trained_on.json`, written when it begins, and what has changed since.

Labels and ids of subjects stand there as digests made with the project's key.
"""

import json
from pathlib import Path
from typing import Any

from adnext_plugin.files import read_json, write_json
from adnext_plugin.formats import Format
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.records import from_json, record, to_json
from adnext_plugin.task import Task

TRAINED_ON = Format(
    name="adnext_trained_on",
    version=1,
    known_by="cases",
    words="what an AD-NeXt trainer notes of its data",
    remedy="train the fold again with adnext_train",
)
# where masks lie may change; what they hold is in the volumes
NOT_COMPARED = frozenset(("brain_mask_files",))


@record
class TrainedCase:
    """A case as it was: its part of the fold, and digests; None where there is nothing to compare.

    `subject`, `label` and `covariates` are made with the project's key, `volume` is of the bytes of the stored file.
    """

    part: str
    subject: str
    label: str | None = None
    covariates: str | None = None
    volume: str | None = None


@record
class Preparation:
    """How the volumes were made: names of plans and configuration, and what these say."""

    plans: str
    configuration: str
    prepared_by: str
    preprocessing: dict[str, Any]  # as JSON, defaults included
    stored_spacing_mm: tuple[float, ...] | None = None  # z, y, x; of volumes that nnU-Net prepared


@record
class TrainedOn:
    """Everything of a preprocessed dataset that a fold's numbers depend on.

    `preparation` is None where volumes do not matter.
    """

    dataset: str
    preparation: Preparation | None
    task: Task
    fold: int | str
    covariates: tuple[str, ...] = ()  # columns of subjects.csv that the network is told
    key_digest: str | None  # tells whether digests were made with one key; None where it could not be had
    cases: dict[str, TrainedCase]


def write_trained_on(trained_on: TrainedOn, path: Path) -> None:
    """Write `trained_on.json`."""
    write_json(TRAINED_ON.stamped(to_json(trained_on)), path)


def read_trained_on(path: Path) -> TrainedOn:
    """Read `trained_on.json`.

    Raises:
        PathsError: there is none, or it is damaged.
        FormatError: it is another program's, or a later version's.
        SettingsError: a key is unknown or missing.
    """
    return from_json(TrainedOn, TRAINED_ON.content_of(read_json(path), str(path)), str(path))


def without_paths(settings: PreprocessingSettings) -> dict[str, Any]:
    """The settings as JSON, less those that are not compared."""
    return {name: value for name, value in to_json(settings).items() if name not in NOT_COMPARED}


def differences(then: TrainedOn, now: TrainedOn) -> tuple[str, ...]:
    """What has changed, each in a few words, with a value or the first case; nothing where the data are the same."""
    return (*_of_preparation(then.preparation, now.preparation), *_of_task(then.task, now.task), *_of_cases(then, now))


def _of_preparation(then: Preparation | None, now: Preparation | None) -> list[str]:
    if then is None or now is None:
        return []
    usual = without_paths(PreprocessingSettings())
    names = {**usual, **then.preprocessing, **now.preprocessing}
    pairs = {name: [one.preprocessing.get(name, usual.get(name)) for one in (then, now)] for name in names}
    for name in ("prepared_by", "stored_spacing_mm"):
        pairs[name] = [to_json(one)[name] for one in (then, now)]
    return [_was(name, *values) for name, values in pairs.items() if values[0] != values[1]]


def _of_task(then: Task, now: Task) -> list[str]:
    # what the target's column is called does not matter: labels are compared case by case
    pairs = {"kind": (then.kind, now.kind), "classes": (then.classes, now.classes)}
    return [_was(name, *values) for name, values in pairs.items() if values[0] != values[1]]


def _of_cases(then: TrainedOn, now: TrainedOn) -> list[str]:
    gone, new = sorted(then.cases.keys() - now.cases.keys()), sorted(now.cases.keys() - then.cases.keys())
    shared = sorted(then.cases.keys() & now.cases.keys())
    found = []
    if gone:
        found.append(_count(gone, len(then.cases), "cases are gone"))
    if new:
        found.append(_count(new, len(now.cases), "cases are new"))
    told = ["part", *(["subject", "label", "covariates"] if _have_one_key(then, now) else []), "volume"]
    words = {
        "part": "cases are in another part of the fold",
        "subject": "cases are of another subject",
        "label": f"labels ({now.task.target}) differ",
        "covariates": f"cases differ in {', '.join(then.covariates)}",
        "volume": "prepared volumes differ",
    }
    for name in told:
        changed = [case for case in shared if _differ(then.cases[case], now.cases[case], name)]
        if changed:
            found.append(_count(changed, len(shared), words[name]))
    return found


def _have_one_key(then: TrainedOn, now: TrainedOn) -> bool:
    return then.key_digest is not None and then.key_digest == now.key_digest


def _differ(then: TrainedCase, now: TrainedCase, name: str) -> bool:
    before, after = getattr(then, name), getattr(now, name)
    return before is not None and after is not None and before != after


def _was(name: str, before: object, after: object) -> str:
    return f"{name} was {json.dumps(before)} and is {json.dumps(after)}"


def _count(cases: list[str], of: int, words: str) -> str:
    return f"{len(cases)} of {of} {words}, the first is {cases[0]!r}"


def not_compared(then: TrainedOn, now: TrainedOn) -> str | None:
    """Of what nobody can tell whether it has changed; None where all could be compared."""
    needed = [] if now.preparation is None else sorted(now.cases.keys() & then.cases.keys())
    absent = [case for case in needed if now.cases[case].volume is None]
    lacking = [
        None
        if _have_one_key(then, now)
        else "subjects and labels (their digests were made with another project's key)",
        f"{len(absent)} prepared volumes (they are not there)" if absent else None,
    ]
    return " and ".join(filter(None, lacking)) or None
