"""A trained model as one file to share, without anything of any one person in it."""

from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.paths import preprocessed_dir, without_links
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import Tell, choose_device


@dataclass(frozen=True, kw_only=True)
class Request:
    """The folder of a run, and the file to write.

    `with_ranges`: also say what the training scans look like, for which their preprocessed dataset is needed. `device`:
    cpu, cuda or mps; None for a GPU where there is one.
    """

    run: Path
    output: Path
    with_ranges: bool = True
    overwrite: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.output.suffix != ".zip":
            raise SettingsError(f"-o {self.output}: a bundle's name ends in .zip")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The bundle."""

    bundle: Path
    networks: int
    bytes: int
    sha256: str


def export(request: Request, tell: Tell) -> Result:
    """Write the folds of a run into one archive.

    Raises:
        PathsError: the file exists, or a file of the run or its dataset is missing.
        WeightsError: a checkpoint cannot be read safely, or is not of this run.
        SettingsError: the run learned no task.
    """
    if request.output.exists() and not request.overwrite:
        raise PathsError(f"{request.output} exists; choose another name, or give --overwrite")

    from adnext_plugin.images import file_sha256
    from adnext_plugin.prediction.bundle import write_bundle
    from adnext_plugin.prediction.from_run import read_run
    from adnext_plugin.prediction.training_cases import with_features, with_ranges
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data

    run = RunFolder(without_links(request.run))
    model = read_run(run)
    if request.with_ranges:
        dataset = preprocessed_dir() / model.description.dataset
        refuse_other_data(run.folds(), PreparedData.open(dataset, run.plans, run.configuration))
        model = with_features(with_ranges(model, dataset), dataset, choose_device(request.device))
    write_bundle(model, request.output)
    result = Result(
        bundle=request.output,
        networks=len(model.folds),
        bytes=request.output.stat().st_size,
        sha256=file_sha256(request.output),
    )
    tell(f"{result.networks} networks are in {result.bundle}, {result.bytes / 2**20:.1f} MiB")
    tell(f"SHA-256 {result.sha256}")
    return result
