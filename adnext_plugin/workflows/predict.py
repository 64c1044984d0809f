"""A trained model on new scans, with warnings where they are unlike those it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adnext_plugin.builtin.weights import PREFIX, card_of, is_builtin, model_folder
from adnext_plugin.deployment.kinds import SUFFIXES, ProgramFormat
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.files import refuse_file
from adnext_plugin.partial_files import partial_folder
from adnext_plugin.paths import BUNDLES, preprocessed_dir, results_dir, without_links
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import Tell, choose_device, say_nothing

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.explanations.animation import Form
    from adnext_plugin.prediction.description import ModelDescription
    from adnext_plugin.prediction.ensemble import Ensemble, Prediction, PreparedScan, See
    from adnext_plugin.prediction.inputs import Inputs, ScanInput
    from adnext_plugin.prediction.model import Model
    from adnext_plugin.prediction.results import Outcome


Backend = Literal["eager", ProgramFormat]


@dataclass(frozen=True, kw_only=True)
class Explain:
    """A method of explanation and its settings; class or quantity, None for the last; form of films, if any."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    animate: "Form | None" = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Scans, a model, and the folder for `predictions.csv`, `predictions.json` and `predictions.html`.

    `input`: an image, a folder, a table, a BIDS tree or a dataset. `model`: folder of a run, folder or name of an
    installed bundle, `builtin:NAME`, or a program that `adnext_export` has written. `folds`: of the model's networks,
    None for all there are. `device`: cpu, cuda or mps; None for a GPU where there is one. `images`, `image_pattern` and
    `columns` (role to column) are for tables, `bids_suffix` and `bids_entities` (KEY=VALUE) are for BIDS trees,
    `channels` (NAME=PATTERN) for either, with a model of several images.
    `backend`: what runs the networks; None for what fits the model: eager for a run or a bundle, else the program's.
    `explain`: how to map what the networks look at; None for no maps. `bids_derivatives`: a folder for brain masks and
    answers as a BIDS derivative; None for none.
    """

    input: str
    output: Path
    model: Path
    folds: tuple[str, ...] | None = None
    device: str | None = None
    processes: int = field(default_factory=lambda: min(4, usable_cpus()))
    images: Path | None = None
    image_pattern: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    explain: "Explain | None" = None
    bids_suffix: str = "T1w"
    bids_entities: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    backend: Backend | None = None
    bids_derivatives: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The files written; how many scans were predicted, with warnings among them; why others failed, by case id.

    `maps`: folder of explanations, `derivative`: folder of the BIDS derivative; None if there are none.
    """

    predictions_file: Path
    details_file: Path
    page: Path
    predicted: int
    warned: int
    failed: tuple[tuple[str, str], ...]
    maps: Path | None = None
    derivative: Path | None = None


def predict(request: Request, tell: Tell) -> Result:
    """Predict scans and write what was found; a scan that fails has its reason in the files.

    Raises:
        PathsError: scans, model or a file of either are missing, or `output` is a file.
        WeightsError, BundleError: the model is damaged.
        SettingsError: the model needs what is not known, or there is no such fold or device.
    """
    refuse_file(request.output, "-o")
    if request.bids_derivatives is not None:
        refuse_file(request.bids_derivatives, "--bids-derivatives")

    from adnext_plugin.prediction.derivative import Derivative
    from adnext_plugin.prediction.inputs import bids_root, read_inputs
    from adnext_plugin.prediction.results import reasons, write_results
    from adnext_plugin.workflows.new_maps import NewMaps
    from adnext_plugin.workflows.prediction_page import Pictures, write_page

    opened = open_ensemble(request)
    ensemble, description = opened.ensemble, opened.ensemble.description
    table_options = {"images": request.images, "image_pattern": request.image_pattern, "columns": request.columns}
    inputs = read_inputs(
        request.input,
        description,
        ensemble.columns,
        table_options,
        request.bids_suffix,
        request.bids_entities,
        request.channels,
    )
    if inputs.left_out:
        tell(f"{len(inputs.left_out)} images or rows of {request.input} were left out: {inputs.left_out[0]}, ...")
    _tell_model(description, ensemble.not_checked, opened.runs_on, tell)
    if ensemble.shortfall is not None:
        tell(ensemble.shortfall)
    if is_builtin(request.model):
        _tell_worth(str(request.model), tell)
    maps = None
    if request.explain is not None:
        if opened.model is None:
            raise SettingsError(f"--explain: {request.model} is a program; give the run or the bundle it is of")
        maps = NewMaps(request.explain, opened.model, opened.device, request.output / "explanations")
    derivative = None
    if request.bids_derivatives is not None:
        root = bids_root(request.input)
        derivative = Derivative(request.bids_derivatives, inputs.scans, description, root)
        derivative.begin()
    request.output.mkdir(parents=True, exist_ok=True)
    pictures = Pictures()

    def see(scan: "ScanInput", prepared: "PreparedScan", row: "pd.DataFrame", found: "Prediction") -> None:
        pictures.add(scan, prepared, row, found)
        if maps is not None:
            maps.add(scan, prepared, row, found)
        if derivative is not None:
            derivative.see(scan, prepared, row, found)

    outcomes = predict_scans(ensemble, inputs, request.output, request.processes, see)
    if opened.model is not None:
        outcomes = with_recognised(outcomes, inputs, opened.model)
    write_results(outcomes, description, ensemble.not_checked, request.output)
    if derivative is not None:
        derivative.write(outcomes)
    page = write_page(outcomes, description, pictures, request.model, request.output)
    if maps is not None:
        maps.finish()
    failed = reasons(outcomes)
    return Result(
        predictions_file=request.output / "predictions.csv",
        details_file=request.output / "predictions.json",
        page=page,
        predicted=len(outcomes) - len(failed),
        warned=sum(bool(outcome.warnings) for _, outcome in outcomes if not isinstance(outcome, AdnextError)),
        failed=failed,
        maps=None if maps is None else maps.folder,
        derivative=request.bids_derivatives,
    )


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Networks at work, what they run on in words, and of a run or a bundle, not of a program, model and device."""

    ensemble: "Ensemble"
    runs_on: str
    model: "Model | None" = None
    device: str = "cpu"


def open_ensemble(request: Request) -> Opened:
    """Get the networks of a request ready. Torch is not loaded for a program in ONNX.

    Raises:
        PathsError, WeightsError, BundleError: the model is missing or damaged.
        SettingsError: there is no such fold or device, or the backend does not fit the model.
    """
    is_program = request.model.suffix in SUFFIXES.values()
    if is_program and request.backend == "eager":
        raise SettingsError(f"--backend eager: {request.model} is a program; give the run or the bundle it is of")
    if not is_program and request.backend in (None, "eager"):
        from adnext_plugin.prediction.eager import ensemble_of

        device = choose_device(request.device)
        model = read_model(request.model, request.folds)
        return Opened(ensemble=ensemble_of(model, device), runs_on=device, model=model, device=device)
    if request.device not in (None, "cpu"):
        raise SettingsError(f"-device {request.device}: programs run on the processor; use --backend eager")
    if request.folds is not None:
        raise SettingsError("--folds: a program's networks are one; choose them with adnext_export --folds")
    from adnext_plugin.deployment.runner import open_program, program_ensemble

    runner = open_program(request.model, request.backend)
    return Opened(ensemble=program_ensemble(runner), runs_on=f"cpu, by {runner.notes.backend}")


def predict_scans(
    ensemble: "Ensemble", inputs: "Inputs", folder: Path, processes: int, see: "See | None" = None
) -> "list[Outcome]":
    """Predict scans, in their order.

    Args:
        ensemble: the networks.
        inputs: the scans.
        folder: in which prepared volumes are for a while.
        processes: how many scans to prepare at once; at least one.
        see: as in `Ensemble.predict`.
    """
    found = {}
    with partial_folder(folder) as work:
        for scan, outcome in ensemble.predict(inputs, work / "volumes", max(1, processes), see):
            found[scan] = outcome
    return [(scan, found[scan]) for scan in inputs.scans]


def with_recognised(outcomes: "list[Outcome]", inputs: "Inputs", model: "Model") -> "list[Outcome]":
    """The outcomes, with a warning at each scan that the networks were trained on, as far as that can be told."""
    from adnext_plugin.prediction.recognised import warnings_of

    found = dict(zip(inputs.scans, warnings_of(inputs, model.seen), strict=True))
    return [
        (scan, outcome)
        if isinstance(outcome, AdnextError) or found[scan] is None
        else (scan, replace(outcome, warnings=(str(found[scan]), *outcome.warnings)))
        for scan, outcome in outcomes
    ]


def read_model(path: Path, folds: Sequence[str] | None = None) -> "Model":
    """Read a trained model.

    Args:
        path: folder of a run, TRAINER__PLANS__CONFIGURATION; folder or name of an installed bundle; or `builtin:NAME`.
        folds: of its networks; None for all there are.

    Raises:
        PathsError: it is none of them, or a file is missing.
        UnknownNameError: no such model comes with the package.
        WeightsError, BundleError: it is damaged.
        SettingsError: it has no such fold, or has learned no task.
    """
    from adnext_plugin.prediction.bundle import is_bundle, read_bundle
    from adnext_plugin.prediction.from_run import read_run

    folder = model_folder(str(path)) if is_builtin(path) else path
    if not folder.exists() and len(folder.parts) == 1 and (results_dir() / BUNDLES / folder).is_dir():
        folder = results_dir() / BUNDLES / folder
    if folder.is_file():
        raise PathsError(f"-m {folder} is a file; install a bundle with adnext_install first, or give a run's folder")
    if not is_bundle(folder):
        run = RunFolder(without_links(folder))
        return _with_ranges(read_run(run, folds), run)
    model = read_bundle(folder)
    return model if folds is None else only_folds(model, folds)


def only_folds(model: "Model", folds: Sequence[str]) -> "Model":
    """The model with some of its networks.

    Raises:
        SettingsError: it has no such fold.
    """
    known = [fold.name for fold in model.description.folds]
    unknown = [name for name in folds if name not in known]
    if unknown:
        raise SettingsError(f"--folds: the model has no fold {unknown[0]}; it has {', '.join(known)}")
    chosen = [known.index(name) for name in dict.fromkeys(folds)]
    description = replace(model.description, folds=tuple(model.description.folds[index] for index in chosen))
    seen = tuple(model.seen[index] for index in chosen) if model.seen else ()
    return replace(model, description=description, folds=tuple(model.folds[index] for index in chosen), seen=seen)


def _with_ranges(model: "Model", run: RunFolder) -> "Model":
    """A run has no ranges of its own; they are measured where the preprocessed dataset still is as it was."""
    from adnext_plugin.prediction.training_cases import with_ranges
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data

    dataset = preprocessed_dir() / model.description.dataset
    try:
        refuse_other_data(run.folds(), PreparedData.open(dataset, run.plans, run.configuration), say_nothing)
        return with_ranges(model, dataset)
    except AdnextError:
        return model


def _tell_worth(name: str, tell: Tell) -> None:
    for score in card_of(name).scores:
        tell(f"{score.name} {score.in_words} in {score.of} ({score.people} people)")
    tell(f"adnext_weights {name.removeprefix(PREFIX)} has data, terms and limits")


def _tell_model(description: "ModelDescription", not_checked: Sequence[str], runs_on: str, tell: Tell) -> None:
    tell(f"{description.in_words}; on {runs_on}")
    for stamp in description.stamps:
        tell(stamp)
    uncertain = [fold.name for fold in description.folds if fold.temperature_at_limit]
    if uncertain:
        tell(f"Calibration is rough: few or perfectly separated people to calibrate on (fold {', '.join(uncertain)})")
    if not_checked:
        tell(
            f"Not compared with the training scans: {', '.join(not_checked)} (adnext_export measures them where the "
            "preprocessed dataset is)"
        )
