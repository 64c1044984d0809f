"""Phantom brains: the MNI152 template, deformed anew for each subject, with disease of a known size.

The maps lie inside the nilearn package, so nothing is downloaded. Deformations are written as pull-backs: the phantom
at x shows the template at x + u(x), with x in millimetres of MNI space.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

VOXEL_MM = 2

# Regions of the disease, in MNI millimetres (x, y, z): centre and radius of the deformation
VENTRICLES = ((0.0, -8.0, 14.0), (34.0, 42.0, 26.0))
MEDIAL_TEMPORAL = (((-26.0, -18.0, -18.0), (14.0, 20.0, 13.0)), ((26.0, -18.0, -18.0), (14.0, 20.0, 13.0)))
VENTRICLE_BOX = ((-40, 40), (-55, 35), (-5, 35))
HIPPOCAMPUS_RADII = (9.0, 19.0, 9.0)
CLEAR_CHANGE = 0.2  # of intensities, which are up to 1; what a Gaussian region hardly moves at its rim stays below


@dataclass(frozen=True, kw_only=True)
class Template:
    """Maps on one grid, (X, Y, Z): intensity, grey and white matter from 0 to 1, masks, and voxel positions in mm."""

    t1_xyz: np.ndarray
    grey_xyz: np.ndarray
    white_xyz: np.ndarray
    brain_xyz: np.ndarray
    ventricles_xyz: np.ndarray
    medial_temporal_xyz: np.ndarray
    position_mm: np.ndarray  # (3, X, Y, Z)
    affine: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What makes a subject: growth of the ventricles, loss of the medial temporal lobe, size, and a shape of its own.

    `ventricle_growth` and `temporal_loss` are the linear changes at the centres of the regions (0.1: 10 % larger, 10 %
    smaller). `shape_seed` draws the smooth random deformation.
    """

    ventricle_growth: float
    temporal_loss: float
    scale: float
    shape_seed: int


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A scan (X, Y, Z), brain-extracted, and the true volumes of the two regions."""

    volume_xyz: np.ndarray
    ventricles_ml: float
    medial_temporal_ml: float


@functools.cache
def load_template() -> Template:
    """Read the maps from the nilearn package."""
    from nilearn import datasets

    t1 = datasets.load_mni152_template(resolution=VOXEL_MM)
    grey, white, brain = (
        load(resolution=VOXEL_MM).get_fdata()
        for load in (
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    )
    position_mm = (
        np.einsum("ij,jxyz->ixyz", t1.affine[:3, :3], np.indices(t1.shape)) + t1.affine[:3, 3, None, None, None]
    )
    low, high = (np.reshape(edge, (3, 1, 1, 1)) for edge in zip(*VENTRICLE_BOX, strict=True))
    inside = ((low < position_mm) & (position_mm < high)).all(axis=0)
    fluid, _ = ndimage.label(inside & (brain > 0) & (grey + white < 0.5))
    ventricles = fluid == 1 + np.argmax(np.bincount(fluid.ravel())[1:])
    temporal = np.any([_distance(position_mm, centre, HIPPOCAMPUS_RADII) < 1 for centre, _ in MEDIAL_TEMPORAL], axis=0)
    return Template(
        t1_xyz=t1.get_fdata(),
        grey_xyz=grey,
        white_xyz=white,
        brain_xyz=brain > 0,
        ventricles_xyz=ventricles,
        medial_temporal_xyz=temporal,
        position_mm=position_mm,
        affine=t1.affine,
    )


def make_phantom(anatomy: Anatomy, scan_seed: int) -> Phantom:
    """Draw one scan of a subject.

    Args:
        anatomy: of the subject; two scans of one subject share it.
        scan_seed: of contrast, bias field and noise, which differ from scan to scan.
    """
    template = load_template()
    where = _pull_back(template, anatomy)
    generator = np.random.default_rng(scan_seed)
    contrast_xyz = (
        template.t1_xyz + generator.normal(0, 0.03) * template.grey_xyz + generator.normal(0, 0.03) * template.white_xyz
    )
    clean_xyz = ndimage.map_coordinates(contrast_xyz, where, order=1)
    inside = _look_up(template.brain_xyz, where) > 0.5
    bias = 1 + _smooth_field(generator, clean_xyz.shape, width_mm=60, deviation=0.08)
    noisy = clean_xyz * bias + generator.normal(0, 0.03, clean_xyz.shape)
    # brain-extracted: exactly 0 outside and nowhere inside
    volume_xyz = np.where(inside, np.clip(noisy, 0.01, None), 0) * generator.uniform(500, 1500)
    voxel_ml = VOXEL_MM**3 / 1000
    return Phantom(
        volume_xyz=volume_xyz.astype(np.float32),
        ventricles_ml=float(_look_up(template.ventricles_xyz, where).sum() * voxel_ml),
        medial_temporal_ml=float(_look_up(template.medial_temporal_xyz, where).sum() * voxel_ml),
    )


def changed_by_disease(ventricle_growth: float, temporal_loss: float) -> np.ndarray:
    """Voxels (X, Y, Z) of the brain whose intensity in the template such disease, and nothing else, clearly changes."""
    template = load_template()
    before_xyz, after_xyz = (
        ndimage.map_coordinates(template.t1_xyz, _voxels(template, template.position_mm + shift), order=1)
        for shift in (0, _shift_of_disease(template.position_mm, ventricle_growth, temporal_loss))
    )
    return template.brain_xyz & (np.abs(after_xyz - before_xyz) > CLEAR_CHANGE)


def _pull_back(template: Template, anatomy: Anatomy) -> np.ndarray:
    """Voxel coordinates of the template that each voxel of the phantom shows, (3, X, Y, Z)."""
    # a phantom 10 % larger shows at x what the template has at x / 1.1
    position = template.position_mm / anatomy.scale
    shift = _shift_of_disease(position, anatomy.ventricle_growth, anatomy.temporal_loss)
    generator = np.random.default_rng(anatomy.shape_seed)
    own = [_smooth_field(generator, position.shape[1:], width_mm=14, deviation=1.5) for _ in range(3)]
    return _voxels(template, position + shift + np.stack(own))


def _shift_of_disease(position_mm: np.ndarray, ventricle_growth: float, temporal_loss: float) -> np.ndarray:
    shift = _magnify(position_mm, *VENTRICLES, 1 / (1 + ventricle_growth) - 1)
    for centre, radii in MEDIAL_TEMPORAL:
        shift = shift + _magnify(position_mm, centre, radii, 1 / (1 - temporal_loss) - 1)
    return shift


def _voxels(template: Template, shown_mm: np.ndarray) -> np.ndarray:
    """Voxel coordinates of positions in the template, (3, X, Y, Z)."""
    to_voxels = np.linalg.inv(template.affine)
    return np.einsum("ij,jxyz->ixyz", to_voxels[:3, :3], shown_mm) + to_voxels[:3, 3, None, None, None]


def _magnify(position_mm: np.ndarray, centre: tuple, radii: tuple, strength: float) -> np.ndarray:
    """Pull-back that scales space about a centre by 1 / (1 + strength), fading out as a Gaussian of these radii."""
    offset = position_mm - np.reshape(centre, (3, 1, 1, 1))
    return strength * offset * np.exp(-(_distance(position_mm, centre, radii) ** 2) / 2)


def _distance(position_mm: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    offset = position_mm - np.reshape(centre, (3, 1, 1, 1))
    return np.sqrt(((offset / np.reshape(radii, (3, 1, 1, 1))) ** 2).sum(axis=0))


def _smooth_field(generator: np.random.Generator, shape: tuple, width_mm: float, deviation: float) -> np.ndarray:
    """Gaussian-smoothed noise of zero mean and the given standard deviation."""
    # drawn coarsely and enlarged: smoothing at full size would take most of the time
    coarse_mm = width_mm / 2
    coarse = [int(np.ceil(size * VOXEL_MM / coarse_mm)) + 2 for size in shape]
    field = ndimage.gaussian_filter(generator.normal(size=coarse), sigma=2, mode="wrap")
    field = (field - field.mean()) * deviation / field.std()
    steps = [np.linspace(0, have - 1, want) for have, want in zip(coarse, shape, strict=True)]
    return ndimage.map_coordinates(field, np.meshgrid(*steps, indexing="ij"), order=1)


def _look_up(mask_xyz: np.ndarray, where: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(mask_xyz.astype(np.float32), where, order=1)
