"""A trained model as one file, without anything of any one person in it: to share, or as a program without Python."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adnext_plugin.deployment.kinds import SUFFIXES as PROGRAM_SUFFIXES
from adnext_plugin.deployment.kinds import ProgramFormat, WeightsKind
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import refuse_existing
from adnext_plugin.paths import preprocessed_dir, without_links
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import Tell, choose_device
from adnext_plugin.workflows.hub import BUNDLE, push, require_hub, require_repository

if TYPE_CHECKING:
    from adnext_plugin.prediction.model import Model

Format = Literal["zip", ProgramFormat]
SUFFIXES: dict[Format, str] = {"zip": ".zip", **PROGRAM_SUFFIXES}  # type: ignore[dict-item]  # keys are a part


@dataclass(frozen=True, kw_only=True)
class Request:
    """The folder of a run, or folder or name of an installed bundle, and the file to write.

    `with_ranges`: also say what the training scans look like, for which their preprocessed dataset is needed. `device`:
    cpu, cuda or mps, for measuring them; None for a GPU where there is one. `format`: None for what the file's ending
    says. `folds`: of the model's networks, None for all there are. `weights`: int8 rounds them, for a smaller file of
    ONNX. `push`: OWNER/REPO on the Hugging Face hub, where the bundle goes, too; with it `output` may be None.
    `is_public`: the repository, if it is made now.
    """

    run: Path
    output: Path | None = None
    with_ranges: bool = True
    overwrite: bool = False
    device: str | None = None
    format: Format | None = None
    folds: tuple[str, ...] | None = None
    weights: WeightsKind = "float32"
    push: str | None = None
    is_public: bool = False

    def __post_init__(self) -> None:
        self._check_push()
        if self.output is None:
            return
        known = [name for name, suffix in SUFFIXES.items() if suffix == self.output.suffix]
        if self.format is None and not known:
            endings = ", ".join(f"{suffix} ({name})" for name, suffix in SUFFIXES.items())
            raise SettingsError(f"-o {self.output}: a bundle's name ends in .zip; all endings: {endings}")
        if self.format is not None and self.output.suffix != SUFFIXES[self.format]:
            raise SettingsError(
                f"-o {self.output}: the name of a file of {self.format} ends in {SUFFIXES[self.format]}"
            )

        if self.weights != "float32" and self.chosen_format != "onnx":
            raise SettingsError(f"--weights {self.weights}: only programs in ONNX have such; give --format onnx")

    def _check_push(self) -> None:
        if self.push is None:
            if self.output is None:
                raise SettingsError("give -o FILE, or --push OWNER/REPO, or both")
            if self.is_public:
                raise SettingsError("--public goes with --push OWNER/REPO")
            return
        require_repository(self.push)
        if self.chosen_format != "zip" or self.weights != "float32":
            raise SettingsError("--push: bundles go to the hub, no programs; leave out --format and --weights")

    @property
    def chosen_format(self) -> Format:
        """The format given, or that of the file's ending."""
        if self.format is not None:
            return self.format
        if self.output is None:
            return "zip"
        return next(name for name, suffix in SUFFIXES.items() if suffix == self.output.suffix)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The file; `largest_difference` of a probability between a program and the model, None for a bundle.

    `pushed`: where on the hub the bundle is, with its commit. `bundle` is None where it is there alone.
    """

    bundle: Path | None
    networks: int
    bytes: int
    sha256: str
    largest_difference: float | None = None
    pushed: str | None = None


def export(request: Request, tell: Tell) -> Result:
    """Write the folds of a model into one file.

    Raises:
        PathsError: the file exists, or a file of the run or its dataset is missing.
        WeightsError, BundleError: a checkpoint cannot be read safely, or is not of this run; a bundle is damaged.
        SettingsError: the run learned no task, or its preparation needs Python.
        ExportError: a network cannot be written as a program, or the program answers otherwise.
    """
    if request.push is not None:
        require_hub()
    if request.output is not None:
        refuse_existing(request.output, request.overwrite)
        return _export(request, request.output, tell)
    with tempfile.TemporaryDirectory(prefix="adnext_") as folder:
        return replace(_export(request, Path(folder) / BUNDLE, tell), bundle=None)


def _export(request: Request, output: Path, tell: Tell) -> Result:
    from adnext_plugin.images import file_sha256

    model = _model(request)
    largest = None
    if request.chosen_format == "zip":
        from adnext_plugin.prediction.bundle import write_bundle

        write_bundle(model, output)
    else:
        from adnext_plugin.deployment.writers import write_program

        largest = write_program(model, request.chosen_format, output, request.weights)
    result = Result(
        bundle=output,
        networks=len(model.folds),
        bytes=output.stat().st_size,
        sha256=file_sha256(output),
        largest_difference=largest,
    )
    where = output if request.output is not None else BUNDLE
    tell(f"{result.networks} networks are in {where}, {result.bytes / 2**20:.1f} MiB")
    if largest is not None:
        tell(f"Its answers differ from the model's by {largest:.1e} at most, on made-up scans")
    if request.weights != "float32":
        tell("Its weights are rounded: compare its AUC with the model's on scans that neither was trained on")
    tell(f"SHA-256 {result.sha256}")
    if request.push is None:
        return result
    pushed = push(output, result.sha256, model.description, request.push, is_public=request.is_public)
    tell(f"It is on the hub as {pushed}")
    return replace(result, pushed=pushed)


def _model(request: Request) -> "Model":
    from adnext_plugin.prediction.bundle import is_bundle
    from adnext_plugin.prediction.from_run import read_run
    from adnext_plugin.prediction.training_cases import with_features, with_ranges
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data
    from adnext_plugin.workflows.predict import read_model

    if is_bundle(request.run) or (not request.run.exists() and len(request.run.parts) == 1):
        return read_model(request.run, request.folds)
    run = RunFolder(without_links(request.run))
    model = read_run(run, request.folds)
    if not request.with_ranges:
        return model
    dataset = preprocessed_dir() / model.description.dataset
    refuse_other_data(run.folds(), PreparedData.open(dataset, run.plans, run.configuration))
    return with_features(with_ranges(model, dataset), dataset, choose_device(request.device))
