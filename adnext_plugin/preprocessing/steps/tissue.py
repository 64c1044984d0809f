"""How much of a voxel tissues fill: one in place of intensities, or two as channels beside them."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from adnext_plugin.errors import SettingsError
from adnext_plugin.images import FWHM_OF_SIGMA
from adnext_plugin.preprocessing.anatomy.template import mni152
from adnext_plugin.preprocessing.anatomy.tissues import Tissues as FoundTissues
from adnext_plugin.preprocessing.anatomy.tissues import tissues_of
from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.preprocessing.steps.white_matter import in_units_of_white_matter, on_scan
from adnext_plugin.records import record

MARGIN_MM = 8.0  # of fluid around a brain that brain extraction took away


@record
class TissueSettings:
    """Which; whether it keeps its volume when the alignment stretches it; and the width of a Gaussian, in the scan."""

    tissue: Literal["grey", "white", "fluid"] = "grey"
    modulate: bool = True
    fwhm_mm: float = 0.0

    def __post_init__(self) -> None:
        _require_width(self.fwhm_mm, "tissue")


@record
class TissuesSettings:
    """As those of `tissue`, for grey matter and fluid; the image itself is neither modulated nor smoothed."""

    modulate: bool = True
    fwhm_mm: float = 0.0

    def __post_init__(self) -> None:
        _require_width(self.fwhm_mm, "tissues")


class Tissue(Step):
    """Shares of a tissue (`preprocessing/anatomy/tissues.py`) of the first channel, which must be T1-weighted."""

    name: ClassVar[str] = "tissue"
    version: ClassVar[int] = 1
    after: ClassVar[str] = "alignment"
    settings_type: ClassVar[type] = TissueSettings

    def channels(self, names: tuple[str, ...], settings: TissueSettings) -> tuple[str, ...]:
        """As many as there are.

        Raises:
            SettingsError: there are several, in whose place one would stand.
        """
        if len(names) > 1:
            raise SettingsError(
                f"step 'tissue' puts one map in the place of one image, but there are {', '.join(names)}; use the step "
                "'tissues', which puts maps beside them, or import the first alone"
            )
        return names

    def apply(self, scan: Scan, settings: TissueSettings) -> Scan:
        """The scan with one channel; notes means of tissues in units of white matter, and millilitres.

        Raises:
            ImageError: it is no T1-weighted brain.
            SettingsError: the plan does not align scans.
        """
        scan, found, _ = _found(scan, self.name)
        shares = {"grey": found.grey, "white": found.white, "fluid": found.fluid}[settings.tissue]
        image = _smoothed(shares, scan, settings)
        return replace(scan, image_czyx=image[None], modulated=(0,) if settings.modulate else ()).noting(
            tissue_means=list(found.means), **{f"{settings.tissue}_ml": _millilitres(shares, scan)}
        )

    def describe(self, settings: TissueSettings) -> str:
        """Which, and what was done to it."""
        what = f"share of {settings.tissue} matter in each voxel".replace("fluid matter", "fluid")
        return what + _changes_in_words(settings)


class Tissues(Step):
    """All images in units of their deep white matter; grey matter and fluid of the first, which must be T1-weighted."""

    name: ClassVar[str] = "tissues"
    version: ClassVar[int] = 1
    after: ClassVar[str] = "alignment"
    settings_type: ClassVar[type] = TissuesSettings

    def channels(self, names: tuple[str, ...], settings: TissuesSettings) -> tuple[str, ...]:
        """The images, and the tissues."""
        return (*names, "grey", "fluid")

    def apply(self, scan: Scan, settings: TissuesSettings) -> Scan:
        """The scan with two channels more; notes as those of `tissue`.

        Raises:
            ImageError: it is no T1-weighted brain.
            SettingsError: the plan does not align scans.
        """
        scan, found, white = _found(scan, self.name)
        shares = (_smoothed(one, scan, settings) for one in (found.grey, found.fluid))
        images, _ = in_units_of_white_matter(scan, white)
        places = (len(images), len(images) + 1)
        channels = scan.with_channels(np.concatenate([images, np.stack([*shares])]))
        return replace(channels, modulated=places if settings.modulate else ()).noting(
            tissue_means=list(found.means),
            grey_ml=_millilitres(found.grey, scan),
            fluid_ml=_millilitres(found.fluid, scan),
        )

    def describe(self, settings: TissuesSettings) -> str:
        """What they are, and what was done to them."""
        shares = f"shares of grey matter and fluid{_changes_in_words(settings)}"
        return f"intensities in units of deep white matter, and {shares}, as channels"


def _require_width(fwhm_mm: float, step: str) -> None:
    if not 0 <= fwhm_mm < 50:
        raise SettingsError(f"step {step}: fwhm_mm must be 0 to 50 mm, got {fwhm_mm}")


def _changes_in_words(settings: TissueSettings | TissuesSettings) -> str:
    modulated = ", modulated" if settings.modulate else ""
    return modulated + (f", smoothed with {settings.fwhm_mm:g} mm" if settings.fwhm_mm else "")


def _found(scan: Scan, step: str) -> tuple[Scan, FoundTissues, np.ndarray]:
    """The scan with a margin, its tissues, and the template's probabilities of white matter on it."""
    scan, template = _with_margin(scan), mni152()
    mask, wide_mask, white = (on_scan(one, scan, step) for one in (template.mask, template.wide_mask, template.white))
    return scan, tissues_of(scan.image_czyx[0], mask > 0.5, wide_mask > 0.5, white), white


def _smoothed(shares: np.ndarray, scan: Scan, settings: TissueSettings | TissuesSettings) -> np.ndarray:
    image = gaussian_filter(shares, [settings.fwhm_mm / FWHM_OF_SIGMA / edge for edge in scan.spacing_mm])
    return image * np.float32(_volume_change(scan)) if settings.modulate else image


def _millilitres(shares: np.ndarray, scan: Scan) -> float:
    return float(shares.sum(dtype=np.float64)) * float(np.prod(scan.spacing_mm)) / 1000


def _volume_change(scan: Scan) -> float:
    """Cubic millimetres of the scan in one of the template by the matrix, the same everywhere; `fit` knows of warps."""
    assert scan.placement is not None
    return abs(float(np.linalg.det(scan.placement.scan_from_space_mm[:3, :3])))


def _with_margin(scan: Scan) -> Scan:
    voxels_zyx = [int(np.ceil(MARGIN_MM / edge)) for edge in scan.spacing_mm]
    affine = scan.affine.copy()
    affine[:3, 3] -= scan.affine[:3, :3] @ voxels_zyx[::-1]
    padded = np.pad(scan.image_czyx, [(0, 0), *((width, width) for width in voxels_zyx)])
    return replace(scan, image_czyx=padded, affine=affine)
