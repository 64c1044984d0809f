"""A trained model as a BIDS App: people of a BIDS dataset one by one, then all of them in one table.

Source of the command line: Gorgolewski et al. 2017, PLoS Comput Biol 13:e1005209.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.files import refuse_file
from adnext_plugin.workflows.common import Tell
from adnext_plugin.workflows.predict import Backend, open_ensemble, predict_scans, with_recognised
from adnext_plugin.workflows.predict import Request as PredictRequest

if TYPE_CHECKING:
    from adnext_plugin.prediction.results import Outcome

Level = Literal["participant", "group"]
GROUP_FILE = "predictions.csv"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A BIDS dataset, the folder of its derivative, and what to do.

    `model`: as `adnext_predict` takes it. `participants`: labels with or without `sub-`, empty for all there are.
    `entities`: KEY=VALUE of the images. `channels`: NAME=PATTERN, of a model that takes several.
    """

    bids_dir: Path
    output_dir: Path
    level: Level
    model: Path
    participants: tuple[str, ...] = ()
    suffix: str = "T1w"
    entities: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    backend: Backend | None = None
    device: str | None = None
    processes: int = field(default_factory=lambda: min(4, usable_cpus()))


@dataclass(frozen=True, kw_only=True)
class Result:
    """Files written, and why scans failed, by case id."""

    files: tuple[Path, ...]
    failed: tuple[tuple[str, str], ...] = ()


def run_bids_app(request: Request, tell: Tell) -> Result:
    """Predict people into `output_dir/sub-LABEL`, or join what was predicted.

    Raises:
        PathsError: the dataset or the model is missing, or nobody was predicted before.
        SettingsError: there is no such person, or the model needs what the dataset does not say.
    """
    if not request.bids_dir.is_dir():
        raise PathsError(f"{request.bids_dir} is no folder; give the root of a BIDS dataset")
    refuse_file(request.output_dir)
    return _participants(request, tell) if request.level == "participant" else _group(request, tell)


def _participants(request: Request, tell: Tell) -> Result:
    from adnext_plugin.prediction.derivative import Derivative
    from adnext_plugin.prediction.inputs import read_inputs
    from adnext_plugin.prediction.results import reasons, write_results

    where = PredictRequest(
        input=str(request.bids_dir),
        output=request.output_dir,
        model=request.model,
        backend=request.backend,
        device=request.device,
    )
    opened = open_ensemble(where)
    ensemble, description = opened.ensemble, opened.ensemble.description
    inputs = read_inputs(
        str(request.bids_dir), description, ensemble.columns, {}, request.suffix, request.entities, request.channels
    )
    wanted, labels = set(map(_label, request.participants)), [_label(scan.subject_id) for scan in inputs.scans]
    if missing := sorted(wanted.difference(labels)):
        raise SettingsError(
            f"--participant-label {missing[0]}: {request.bids_dir} has no {request.suffix} scan of them"
        )
    kept = [index for index, label in enumerate(labels) if not wanted or label in wanted]
    inputs = replace(inputs, scans=tuple(inputs.scans[index] for index in kept), columns=inputs.columns.iloc[kept])
    tell(f"{description.in_words}; on {opened.runs_on}")
    derivative = Derivative(request.output_dir, inputs.scans, description, request.bids_dir)
    derivative.begin()
    outcomes = predict_scans(ensemble, inputs, request.output_dir, request.processes, derivative.see)
    if opened.model is not None:
        outcomes = with_recognised(outcomes, inputs, opened.model)
    derivative.write(outcomes)
    by_label: dict[str, list[Outcome]] = {}
    for scan, outcome in outcomes:
        by_label.setdefault(_label(scan.subject_id), []).append((scan, outcome))
    files = []
    for label, own in by_label.items():
        folder = request.output_dir / f"sub-{label}"
        folder.mkdir(exist_ok=True)
        write_results(own, description, ensemble.not_checked, folder)
        files.append(folder / GROUP_FILE)
    return Result(files=tuple(files), failed=reasons(outcomes))


def _group(request: Request, tell: Tell) -> Result:
    import pandas as pd

    from adnext_plugin.csv_files import read_csv, write_csv

    files = sorted(request.output_dir.glob(f"sub-*/{GROUP_FILE}"))
    if not files:
        raise PathsError(f"{request.output_dir} has no sub-*/{GROUP_FILE}; run the level participant first")
    texts = ("case_id", "subject_id", "session_id", "file", "called", "warnings", "error")
    tables = [read_csv(file, texts=texts, needed=["case_id"], remedy="run participant again") for file in files]
    if len({tuple(table.columns) for table in tables}) > 1:
        raise PathsError(f"{request.output_dir} holds answers of different models; run participant again for all")
    write_csv(pd.concat(tables, ignore_index=True), request.output_dir / GROUP_FILE)
    tell(f"{len(files)} people are in {request.output_dir / GROUP_FILE}")
    return Result(files=(request.output_dir / GROUP_FILE,))


def _label(name: str) -> str:
    """Of a person, who may be named with or without `sub-`."""
    return name.removeprefix("sub-")
