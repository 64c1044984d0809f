"""Numbers of a prepared scan that say whether it is like those a model was trained on: size, voxels, intensities."""

from collections.abc import Mapping, Sequence

import numpy as np

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.images import foreground_box
from adnext_plugin.prediction.description import Range

AXES = ("z", "y", "x")
INTENSITY_PERCENTILES = (5, 50, 95)
WORDS = {"extent": "size", "spacing": "voxel size", "intensity": "intensities"}


def measure(volume_zyx: np.ndarray, properties: CaseProperties | None) -> dict[str, float]:
    """Name to value, for what is known.

    Args:
        volume_zyx: the network's input, background 0.
        properties: what preprocessing noted of the scan; None where there is no such note.

    Returns:
        `intensity_*`: percentiles and skewness of the foreground after it was brought to mean 0 and deviation 1, so
        that the scanner's scale is no matter but contrast, skull and lesions are. `spacing_*_mm`, `extent_*_mm`: voxel
        edges and the foreground's size in the file, in axis order z, y, x after reorientation.
    """
    inside = volume_zyx[foreground_box(volume_zyx)].astype(np.float64)
    inside = inside[inside != 0]
    percentiles = np.percentile(inside, INTENSITY_PERCENTILES)
    found = {
        f"intensity_percentile_{p}": float(value) for p, value in zip(INTENSITY_PERCENTILES, percentiles, strict=True)
    }
    found["intensity_skewness"] = _skewness(inside) if np.ptp(inside) > 0 else 0.0
    if properties is None:
        return found
    for axis, spacing, (start, stop) in zip(AXES, properties.spacing_mm, properties.foreground_box, strict=True):
        found[f"spacing_{axis}_mm"] = float(spacing)
        found[f"extent_{axis}_mm"] = float(spacing * (stop - start))
    return found


def _skewness(values: np.ndarray) -> float:
    """Third moment over the 1.5th power of the second, as `scipy.stats.skew`, which takes a second to load."""
    centred = values - values.mean()
    squares = centred**2
    return float((squares * centred).mean() / squares.mean() ** 1.5)


def ranges_of(measured: Sequence[Mapping[str, float]]) -> dict[str, Range]:
    """Quartiles over scans of what all of them have; nothing where there are too few."""
    if not measured:
        return {}
    shared = set.intersection(*(set(values) for values in measured))
    ranges = {name: Range.of([values[name] for values in measured]) for name in measured[0] if name in shared}
    return {name: found for name, found in ranges.items() if found is not None}


def far_out(measured: Mapping[str, float], ranges: Mapping[str, Range]) -> list[str]:
    """A sentence for each quantity that is far out of its range."""
    sentences = []
    for name, value in measured.items():
        if name not in ranges:
            continue
        low, high = ranges[name].limits
        if not low <= value <= high:
            sentences.append(f"{_words(name, value)}, trained on {low:.3g} to {high:.3g}")
    return sentences


def _words(name: str, value: float) -> str:
    kind, quantity = name.removesuffix("_mm").split("_", 1)
    if name.endswith("_mm"):
        return f"{WORDS[kind]} along {quantity}: {value:.3g} mm"
    return f"{WORDS[kind]}: {quantity.replace('_', ' ')} {value:.3g}"
