"""Whether a written program answers as the model does that it was made of."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from adnext_plugin.deployment.notes import ANSWER, ProgramNotes
from adnext_plugin.deployment.runner import Runner, program_inputs
from adnext_plugin.errors import ExportError
from adnext_plugin.prediction.eager import EagerNetworks
from adnext_plugin.prediction.ensemble import Ensemble
from adnext_plugin.prediction.model import Model

TOLERANCE = 1e-4  # of a probability, or of the target's standard deviation
SCANS = 3


def require_parity(model: Model, runner: Runner, tolerance: float = TOLERANCE) -> float:
    """The largest difference of a probability between a model and its program, on made-up scans.

    Where the program takes any batch, the scans go through it one at a time and together.

    Raises:
        ExportError: it is larger than allowed.
    """
    notes = runner.notes
    networks = EagerNetworks(model, "cpu")
    ensemble = Ensemble(model.description, networks)
    description = model.description
    size_voxels = description.plan.preprocessing.input_size_voxels
    images_bczyx = np.stack(list(_scans((description.in_channels, *size_voxels))))
    rows = people(notes)
    expected_bk = np.stack(
        [
            ensemble.answers(networks(image_czyx, rows.iloc[[index]])).mean(axis=0)
            for index, image_czyx in enumerate(images_bczyx)
        ]
    )
    found_bk = np.concatenate([_answers(runner, images_bczyx, rows, slice(i, i + 1)) for i in range(SCANS)])
    differences = [np.abs(found_bk - expected_bk)]
    if notes.takes_any_batch:
        differences.append(np.abs(_answers(runner, images_bczyx, rows, slice(None)) - expected_bk))
    largest = float(np.max(differences)) / _unit(model)
    if not largest <= tolerance:
        raise ExportError(
            f"the program's answers differ from the model's by {largest:.1e}, more than {tolerance:.0e}, so "
            "nothing was written; use --format zip, and report this with the network's name"
        )
    return largest


def people(notes: ProgramNotes) -> pd.DataFrame:
    """A made-up person for each scan: usual values, and unknown ones where the program takes such."""
    scale = notes.model.folds[0].covariate_scale
    usual = dict(zip(scale.names, scale.means, strict=True)) if scale is not None else {}
    rows = [{name: usual.get(name, 70.0) + step for name in notes.columns} for step in range(SCANS)]
    if notes.may_be_unknown:
        rows[-1] = dict.fromkeys(rows[-1], float("nan"))
    return pd.DataFrame(rows, columns=list(notes.columns), index=range(SCANS), dtype=float)


def _answers(runner: Runner, images_bczyx: np.ndarray, rows: pd.DataFrame, part: slice) -> np.ndarray:
    found_bk = runner(program_inputs(runner.notes, images_bczyx[part], rows.iloc[part]))[ANSWER].astype(np.float64)
    if len(found_bk) != len(images_bczyx[part]):
        raise ExportError(
            f"the program gives {len(found_bk)} answers of {len(images_bczyx[part])} scans, so nothing was written: "
            "the network takes a number of scans for a constant; use --format zip"
        )
    return found_bk


def _unit(model: Model) -> float:
    scales = [fold.target_scale.standard_deviation for fold in model.description.folds if fold.target_scale is not None]
    return min(scales, default=1.0)


def _scans(shape_czyx: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Ellipsoids of noise, rounded as prepared scans are."""
    generator = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape_czyx[1:]], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    for index in range(SCANS):
        noise = generator.normal(0.2 * axes[index % 3], 1.0, size=shape_czyx)
        yield np.where(radius < 0.7 + 0.1 * index, noise, 0.0).astype(np.float16)
