"""Copies of a scan as they come about in practice, for `leak_audit.py`; each on voxels of its own, background 0."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from adnext_plugin.images import Volume, foreground, read_volume, reorient_to_ras
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains.brain_networks import extract_brain

AIR = 8  # voxels around a scan, into which it can be moved
LEAST = 1e-3  # a tissue is never 0, which is background
Change = Callable[[Volume, np.random.Generator], Volume]


def moved(scan: Volume, degrees_xyz: np.ndarray, shift_mm: np.ndarray, spacing_mm: float | None = None) -> Volume:
    """Turned around its centre of mass, shifted (z, y, x) and interpolated, onto larger voxels where asked to."""
    padded = np.pad(scan.volume_zyx, AIR)
    inside = (padded > 0).astype(np.float32)
    old_mm = np.array(scan.spacing_mm)
    new_mm = old_mm if spacing_mm is None else np.full(3, spacing_mm)
    if spacing_mm is not None:
        padded = ndimage.gaussian_filter(padded, np.maximum(0, new_mm / old_mm - 1) / 2)
    centre_mm = np.array(ndimage.center_of_mass(inside)) * old_mm
    turn = Rotation.from_rotvec(np.deg2rad(degrees_xyz)).as_matrix()
    matrix = np.diag(1 / old_mm) @ turn @ np.diag(new_mm)
    offset = (centre_mm - turn @ (centre_mm + shift_mm)) / old_mm
    shape = tuple(np.ceil(np.array(padded.shape) * old_mm / new_mm).astype(int))
    volume, mask = (
        ndimage.affine_transform(one, matrix, offset, output_shape=shape, order=1) for one in (padded, inside)
    )
    affine = scan.affine.copy()
    affine[:3, :3] *= (new_mm / old_mm)[::-1]
    return Volume(volume_zyx=np.where(mask > 0.5, np.maximum(volume, LEAST), 0).astype(np.float32), affine=affine)


def mirrored(scan: Volume) -> Volume:
    """Left and right exchanged under the same header, as where a conversion has lost them."""
    axis_xyz = int(np.argmax(np.abs(scan.affine[0, :3])))
    return Volume(volume_zyx=np.ascontiguousarray(np.flip(scan.volume_zyx, 2 - axis_xyz)), affine=scan.affine)


def _on_tissue(scan: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    volume = scan.volume_zyx
    return Volume(
        volume_zyx=np.where(volume > 0, np.maximum(change(volume), LEAST), 0).astype(np.float32), affine=scan.affine
    )


def _noisy(share: float) -> Change:
    def change(scan: Volume, generator: np.random.Generator) -> Volume:
        sigma = share * np.percentile(scan.volume_zyx[scan.volume_zyx > 0], 99)
        return _on_tissue(scan, lambda volume: volume + generator.normal(0, sigma, volume.shape))

    return change


def _gamma(power: float) -> Change:
    return lambda scan, generator: _on_tissue(scan, lambda volume: (volume / volume.max()) ** power * volume.max())


def _eroded(voxels: int) -> Change:
    def change(scan: Volume, generator: np.random.Generator) -> Volume:
        inside = ndimage.binary_erosion(scan.volume_zyx > 0, iterations=voxels)
        return Volume(volume_zyx=np.where(inside, scan.volume_zyx, 0), affine=scan.affine)

    return change


def _turned(degrees: float) -> Change:
    def change(scan: Volume, generator: np.random.Generator) -> Volume:
        axis = generator.normal(size=3)
        return moved(scan, degrees * axis / np.linalg.norm(axis), np.zeros(3))

    return change


def _both(first: Change, second: Change) -> Change:
    return lambda scan, generator: second(first(scan, generator), generator)


def _mirror(scan: Volume, generator: np.random.Generator) -> Volume:
    return mirrored(scan)


CHANGES: dict[str, Change] = {
    "noise, 10 % of the brightest": _noisy(0.1),
    "gamma 0.6": _gamma(0.6),
    "gamma 1.6": _gamma(1.6),
    "shift by 9 mm": lambda scan, generator: moved(scan, np.zeros(3), np.array([3.4, -5.2, 7.1])),
    "voxels of 3 mm": lambda scan, generator: moved(scan, np.zeros(3), np.zeros(3), 3.0),
    "mask eroded by one voxel (2 mm)": _eroded(1),
    "mask eroded by two voxels (4 mm)": _eroded(2),
    "turned by 3°": _turned(3),
    "turned by 6°": _turned(6),
    "turned by 10°": _turned(10),
    "turned by 20°": _turned(20),
    "mirrored": _mirror,
    "mirrored and turned by 6°": _both(_turned(6), _mirror),
    "mirrored, mask eroded by one voxel": _both(_eroded(1), _mirror),
    "turned by 6°, mask eroded by one voxel, gamma 1.6": _both(_both(_turned(6), _eroded(1)), _gamma(1.6)),
}


def brains_of_head(head: Path) -> dict[str, Volume]:
    """A head's brain by the project's own extraction, and with masks that are one and two voxels too large."""
    scan = reorient_to_ras(read_volume(head))
    mask = extract_brain(scan, PreprocessingSettings(brain_extraction="deepbet"), 1)
    masks = {"own brain extraction of the head": mask}
    for voxels in (1, 2):
        masks[f"the same, mask grown by {2 * voxels} mm"] = ndimage.binary_dilation(mask, iterations=voxels)
    return {
        name: Volume(volume_zyx=np.where(inside & foreground(scan.volume_zyx), scan.volume_zyx, 0), affine=scan.affine)
        for name, inside in masks.items()
    }
