"""The section of a report that shows brains: mean brains, and people of whom the network is most sure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from adnext_plugin.pictures import fitted_size, in_squares, jpeg_uri
from adnext_plugin.report.page import PageFigure, Section

EDGE_PIXELS = 160
QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class SureCase:
    """A held-out scan, (Z, Y, X), of a class, that the network calls `called` with some probability."""

    volume_zyx: np.ndarray
    true: str
    called: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class BrainPictures:
    """Mean brains of classes, or of everybody, with the number of scans; scans that the network is most sure of.

    `flagged`: how many cases of the cohort stood out in `adnext_quality`; None where it was not run. `missing` says why
    there are no pictures.
    """

    means: tuple[tuple[str, int, np.ndarray], ...] = ()
    sure: tuple[SureCase, ...] = ()
    flagged: int | None = None
    missing: str = ""


def brains(pictures: BrainPictures | None) -> Section | None:
    """The section; None where nobody has looked for pictures."""
    if pictures is None:
        return None
    figures = [
        PageFigure(
            key=f"mean-{index}",
            uri=picture_of(volume),
            caption=f"Mean of {count} prepared scans, {who}.",
            text=f"Mean brain, {who}: axial, coronal and sagittal plane.",
        )
        for index, (who, count, volume) in enumerate(pictures.means)
    ]
    if len(pictures.means) == 2:
        figures.append(_difference(pictures.means))
    figures += [
        PageFigure(
            key=f"sure-{index}",
            uri=picture_of(one.volume_zyx),
            caption=f"{one.true}, {'rightly' if one.called == one.true else 'wrongly'} called {one.called} with "
            f"{one.probability:.0%}: the scan of this kind that the network is most sure of.",
            text=f"A scan of {one.true} that is called {one.called}.",
        )
        for index, one in enumerate(pictures.sure)
    ]
    said = []
    if figures:
        said.append(
            "Scans as the network sees them. The patient's left is on the left, the front on top or on the right."
        )
    if pictures.flagged is not None:
        said.append(
            f"{pictures.flagged} prepared scans stand out in the cohort; adnext_quality shows which, and why."
            if pictures.flagged
            else "No prepared scan stands out in the cohort (adnext_quality)."
        )
    missing = (pictures.missing,) if pictures.missing else ()
    return Section(key="brains", title="Brains", paragraphs=tuple(said), figures=tuple(figures), missing=missing)


def picture_of(volume_zyx: np.ndarray) -> str:
    """Axial, coronal and sagittal plane through the middle of a brain, side by side, as a data URI."""
    return jpeg_uri(_planes(grey(volume_zyx)), QUALITY)


def grey(volume_zyx: np.ndarray) -> np.ndarray:
    """Intensities as shades, (Z, Y, X, 3), 0 to 255; the background is black wherever z-scores put it."""
    brain = volume_zyx != 0
    if not brain.any():
        return np.zeros((*volume_zyx.shape, 3), np.uint8)
    low, high = np.percentile(volume_zyx[brain], (1, 99.5))
    shade = np.clip((volume_zyx - low) / max(high - low, 1e-6), 0, 1) * 235 + 20
    return np.repeat((shade * brain).astype(np.uint8)[..., None], 3, axis=-1)


def _difference(means: Sequence[tuple[str, int, np.ndarray]]) -> PageFigure:
    import matplotlib  # predicting a scan shows it without

    (first, _, one), (second, _, other) = means
    difference = other - one
    inside = (one != 0) & (other != 0)
    largest = float(np.percentile(np.abs(difference[inside]), 99)) if inside.any() else 1.0
    # these two colours are told apart by every kind of eye
    colours = matplotlib.colormaps["RdBu_r"](0.5 + np.clip(difference / (largest or 1.0), -1, 1) / 2)[..., :3] * 255
    shown = np.where(inside[..., None], colours, 0).astype(np.uint8)
    return PageFigure(
        key="difference",
        uri=jpeg_uri(_planes(shown), QUALITY),
        caption=f"Mean of {second} minus mean of {first}: red where {second} is brighter, blue where it is darker. "
        "No test, only means.",
        text=f"Difference of the mean brains of {second} and {first}.",
    )


def _planes(shown_zyxc: np.ndarray) -> Image.Image:
    """Axial, coronal and sagittal plane through the middle of what is not black, side by side."""
    inside = np.asarray(shown_zyxc.any(axis=-1))
    middle = [
        round(float(np.average(np.arange(size), weights=_along(inside, axis))))
        for axis, size in enumerate(inside.shape)
    ]
    planes = [Image.fromarray(np.take(shown_zyxc, middle[axis], axis=axis)[::-1].copy()) for axis in range(3)]
    resized = [plane.resize(fitted_size(plane.height, plane.width, EDGE_PIXELS)) for plane in planes]
    return in_squares(resized, EDGE_PIXELS)


def _along(inside: np.ndarray, axis: int) -> np.ndarray:
    """How many voxels are inside at each place of an axis; all alike where none is."""
    found = inside.sum(axis=tuple(other for other in range(3) if other != axis))
    return found if found.any() else np.ones_like(found)
