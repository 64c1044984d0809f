"""A trained model in a Python program: load it, and predict scans from files or arrays."""

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.api.scans import Geometry, People, Scan, ScansOnDisk, as_list, people_table
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.importing.image_files import is_image
from adnext_plugin.prediction.eager import ensemble_of
from adnext_plugin.prediction.inputs import Inputs, read_inputs
from adnext_plugin.prediction.model import Model
from adnext_plugin.prediction.results import predictions_table
from adnext_plugin.workflows.common import choose_device
from adnext_plugin.workflows.predict import only_folds, predict_scans, read_model

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from adnext_plugin.plan import Plan
    from adnext_plugin.prediction.description import ModelDescription


def load_model(
    path_or_name: str | PathLike[str], *, folds: Sequence[int | str] | None = None, device: str | None = None
) -> "LoadedModel":
    """Load a trained model: all networks of a cross-validation together.

    Args:
        path_or_name: folder of a run, `TRAINER__PLANS__CONFIGURATION`; folder, or name, of a bundle installed with
            `adnext_install`; the file of a bundle, which is checked as if it were installed; or `builtin:NAME`, a model
            that comes with the package (`adnext_weights` lists them).
        folds: the networks to use, for example `[0, 1]`; all there are by default.
        device: "cpu", "cuda" or "mps"; a GPU where there is one by default.

    Raises:
        PathsError: nothing is there, or a file of the model is missing.
        WeightsError: a checkpoint is damaged, or is of another network.
        BundleError: a bundle is damaged, or is none.
        SettingsError: there is no such fold or device, or the run has learned no task.
    """
    path, chosen = Path(path_or_name), None if folds is None else [str(fold) for fold in folds]
    device = choose_device(device)
    if not path.is_file():
        return LoadedModel(read_model(path, chosen), device)
    if path.suffix != ".zip":
        raise PathsError(
            f"{path} is no model: give the folder of a run, a bundle (.zip), or an installed bundle's name"
        )
    from adnext_plugin.prediction.bundle import read_bundle_file

    model = read_bundle_file(path)
    return LoadedModel(model if chosen is None else only_folds(model, chosen), device)


class LoadedModel:
    """A trained ensemble, ready to predict; `load_model` makes one."""

    def __init__(self, model: Model, device: str) -> None:
        self._ensemble = ensemble_of(model, device)
        self.description: ModelDescription = model.description
        self.device = device

    @property
    def classes(self) -> tuple[str, ...]:
        """What is told apart, in the order of outputs; none for a model of a number."""
        return self.description.task.classes

    @property
    def covariates(self) -> tuple[str, ...]:
        """What the model must know of a person beside the scan."""
        return self._ensemble.columns

    @property
    def plan(self) -> "Plan":
        """How its scans are prepared, and its network."""
        return self.description.plan

    def __repr__(self) -> str:
        needs = f"; needs {', '.join(self.covariates)}" if self.covariates else ""
        return f"<{self.description.in_words}; on {self.device}{needs}>"

    def predict(
        self,
        scans: "Scan | Sequence[Scan | tuple[Scan, ...]]",
        *,
        spacing_zyx_mm: Sequence[float] | None = None,
        affine_xyz: "np.ndarray | None" = None,
        people: People | None = None,
        processes: int | None = None,
    ) -> "pd.DataFrame":
        """Predict scans with all networks together.

        Args:
            scans: what `adnext_predict -i` takes: an image, a folder, a table, a BIDS tree, or a dataset. Or a list of
                images: paths, nibabel images, or arrays. An array is one scan, axes **z, y, x**. Of a model that takes
                several images (`description.images`) each scan is a tuple of them, or the file of the first, `x_0000`,
                with `x_0001` and so on beside it.
            spacing_zyx_mm: voxel size of arrays, in millimetres, **z, y, x**. The axes are then taken to run to the
                head's top (z), front (y) and right (x).
            affine_xyz: for arrays instead: NIfTI's 4×4 matrix from voxel indices **x, y, z** to millimetres, RAS+.
            people: what the model needs to know beside the scans of a list: a table of `covariates`, a row per scan.
                Tables, BIDS trees and datasets say it themselves.
            processes: how many scans to prepare at once.

        Returns:
            The table of `predictions.csv`, a row per scan: `case_id`, `prob_CLASS` for each class (or `prediction`),
            `spread` over the networks, `called`, `feature_distance`, `warnings`; `error` for a scan that failed, which
            no other scan suffers from.

        Raises:
            PathsError: a file is missing.
            ImageError: an array is not a scan.
            SettingsError: arrays without their geometry, or a model that needs to know more.
            TableError: `people` does not fit the scans.
        """
        processes = processes or min(4, usable_cpus())
        with tempfile.TemporaryDirectory(prefix="adnext_") as name:
            if isinstance(scans, str | PathLike) and (people is None or not is_image(Path(scans))):
                if people is not None:
                    raise SettingsError(f"people= goes with images; {scans} says itself whose scans it has")
                outcomes = predict_scans(self._ensemble, self._source(scans), Path(name), processes)
                return predictions_table(outcomes, self.description)
            geometry = Geometry(spacing_zyx_mm=spacing_zyx_mm, affine_xyz=affine_xyz)
            images = self.description.images or ()
            files = ScansOnDisk.write(as_list(scans), Path(name) / "scans", geometry, images)
            known = people_table(people, self.covariates, [scan.case_id for scan in files.scans])
            inputs = Inputs(scans=files.scans, columns=known)
            outcomes = predict_scans(self._ensemble, inputs, Path(name), processes)
            return files.without_folder(predictions_table(outcomes, self.description))

    def _source(self, source: str | PathLike[str]) -> Inputs:
        """What one path names, as `adnext_predict -i` takes it."""
        options: dict[str, Any] = {"images": None, "image_pattern": None, "columns": {}}
        return read_inputs(str(source), self.description, self.covariates, options, "T1w")


def prepare_scan(
    scan: "Scan | tuple[Scan, ...]",
    plan: "LoadedModel | Plan | str | PathLike[str]" = "default",
    *,
    spacing_zyx_mm: Sequence[float] | None = None,
    affine_xyz: "np.ndarray | None" = None,
) -> "np.ndarray":
    """Prepare one scan as a network takes it: brain extraction where the plan has a method for it, and all else.

    Args:
        scan: a path, a nibabel image, or an array, axes **z, y, x**; a tuple of several on one grid, each a channel.
        plan: a loaded model, a `Plan`, a plans file (`ADNeXtPlans.json`), or name or file of a preset.
        spacing_zyx_mm, affine_xyz: geometry of an array, as in `LoadedModel.predict`.

    Returns:
        Intensities, (Z, Y, X), float32, of the plan's input size; the background is 0. Where there
        are several channels, (C, Z, Y, X).

    Raises:
        ImageError: the scan is unusable, or holds no brain.
        PathsError: a file is missing.
        SettingsError: the plan is damaged or wants what is not there, or an array comes without its geometry.
        UnknownNameError: there is no such preset.
    """
    from adnext_plugin.data.store import CaseStore
    from adnext_plugin.prediction import preparation
    from adnext_plugin.preprocessing.chain import channels_of
    from adnext_plugin.preprocessing.preprocessor import CaseJob

    settings = _plan_of(plan).preprocessing
    if settings.brain_extraction == "mask_files":
        raise SettingsError("the plan cuts brains out by mask files; prepare such scans with plan_and_preprocess")
    geometry = Geometry(spacing_zyx_mm=spacing_zyx_mm, affine_xyz=affine_xyz)
    with tempfile.TemporaryDirectory(prefix="adnext_") as name:
        names = tuple(f"image {place}" for place in range(len(scan) if isinstance(scan, tuple) else 1))
        several = names if len(names) > 1 else ()
        (file,) = ScansOnDisk.write([scan], Path(name) / "scans", geometry, several).scans
        volumes = Path(name) / "volumes"
        job = CaseJob(case="scan", image=file.image, further=file.further, folder=volumes, settings=settings)
        job.folder.mkdir()
        preparation.prepare_scan(job)
        channels = len(channels_of(settings, names))
        store = CaseStore(job.folder, [job.case], settings.input_size_voxels, channels=channels)
        image_czyx: np.ndarray = store[0].astype("float32")
    return image_czyx if channels > 1 else image_czyx[0]


def _plan_of(plan: "LoadedModel | Plan | str | PathLike[str]") -> "Plan":
    from adnext_plugin.files import read_object
    from adnext_plugin.paths import CONFIGURATION
    from adnext_plugin.plan import Plan, read_plan
    from adnext_plugin.plans.presets import load_preset

    if isinstance(plan, LoadedModel):
        return plan.plan
    if isinstance(plan, Plan):
        return plan
    if Path(plan).is_file() and "configurations" in read_object(Path(plan)):
        return read_plan(Path(plan), CONFIGURATION)
    return load_preset(str(plan), {})
