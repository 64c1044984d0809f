"""From the network's grid back to the scan: maps over the scan's own voxels, as NIfTI files."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import replacing
from adnext_plugin.images import Volume, centre, looked_up


def map_affine(
    properties: CaseProperties, input_size_voxels: Sequence[int], map_shape: Sequence[int], case: str
) -> np.ndarray:
    """From voxel indices (x, y, z) of a map to millimetres of the scan, 4×4.

    Args:
        properties: of the prepared case.
        input_size_voxels: (Z, Y, X) of the prepared case.
        map_shape: (Z, Y, X), where the network is fed the middle of the prepared case that middle's.
        case: its name, for messages.

    Raises:
        SettingsError: it was prepared by a version that did not note where voxels lie.
    """
    if properties.input_affine is None:
        raise SettingsError(
            f"case {case} was prepared by version 0.1.0, which did not note where voxels lie in the scan; run "
            "adnext_plan_and_preprocess again"
        )
    affine = np.array(properties.input_affine, dtype=float)
    starts = [part.start for part in centre(input_size_voxels, map_shape)]
    affine[:3, 3] = (affine @ [*reversed(starts), 1])[:3]
    return affine


def over_scan(map_zyx: np.ndarray, affine: np.ndarray, properties: CaseProperties) -> Volume:
    """A map over the voxels of the scan, which are turned to RAS orientation; linear in between, 0 outside of the map.

    Args:
        map_zyx: on the network's grid.
        affine: of that grid, as `map_affine` gives it.
        properties: of the prepared case.
    """
    scan_affine = np.array(properties.ras_affine, dtype=float)
    values_zyx = looked_up(map_zyx, np.linalg.inv(affine) @ scan_affine, properties.ras_shape_voxels)
    return Volume(volume_zyx=values_zyx, affine=scan_affine)


def on_map(mask: Volume, affine: np.ndarray, map_shape: Sequence[int]) -> np.ndarray:
    """A mask in the space of a scan, looked up at the voxels of a map: true where it is not 0, (Z, Y, X).

    Args:
        mask: in any orientation; false outside of it.
        affine: of the map's grid, as `map_affine` gives it.
        map_shape: (Z, Y, X).
    """
    share = looked_up(mask.volume_zyx != 0, np.linalg.inv(mask.affine) @ affine, map_shape)
    return share > 0.5


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a .nii.gz file, both of whose forms say where its voxels lie.

    Raises:
        PathsError: the disk is full.
    """
    image = nibabel.Nifti1Image(volume.volume_zyx.T, volume.affine)
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    with replacing(path) as temporary:
        # without the time, so that the same map gives the same bytes
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
