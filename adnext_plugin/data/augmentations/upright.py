"""Augmentations under which heads stay upright."""

from monai.transforms import RandAffine, Transform

from adnext_plugin.data.augmentations.changes import InsideBrain, intensity_changes, mirroring


def none() -> list[Transform]:
    """Images as they are."""
    return []


def mirror() -> list[Transform]:
    """Left-right flips only."""
    return mirroring()


def anatomical() -> list[Transform]:
    """Left-right flips and intensity."""
    return [*mirroring(), *intensity_changes()]


def inside() -> list[Transform]:
    """Left-right flips and intensity, the background staying 0."""
    return [*mirroring(), InsideBrain(intensity_changes())]


def affine() -> list[Transform]:
    """Left-right flips, small rotations, shifts and changes of size, and intensity, the background staying 0."""
    # about as much as heads differ once their boxes are centred; angles in radians, shifts in voxels
    pose = RandAffine(
        prob=0.8,
        rotate_range=(0.1, 0.1, 0.1),
        translate_range=(2, 2, 2),
        scale_range=(0.1, 0.1, 0.1),
        padding_mode="zeros",
    )
    return [*mirroring(), pose, InsideBrain(intensity_changes())]
