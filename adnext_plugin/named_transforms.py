"""The transforms of an augmentation by name, checked against the size of what they change."""

from collections.abc import Sequence

from monai.transforms import RandRotate90, Transform

from adnext_plugin.errors import SettingsError
from adnext_plugin.registry import AUGMENTATIONS, load


def named_transforms(name: str, input_size_voxels: Sequence[int]) -> list[Transform]:
    """What an augmentation consists of.

    Args:
        name: in the entry-point group `adnext.augmentations`.
        input_size_voxels: (Z, Y, X) of the images that it changes.

    Raises:
        UnknownNameError: no augmentation of that name.
        RegistryError: it cannot be imported, or two packages claim the name.
        SettingsError: it turns the axial plane, and that is not square.
    """
    transforms = load(AUGMENTATIONS, name)()
    _, y, x = input_size_voxels
    if y != x and any(isinstance(transform, RandRotate90) for transform in transforms):
        raise SettingsError(
            f"augmentation {name!r} turns the axial plane, which must be square; the input size is "
            f"{list(input_size_voxels)}: make Y and X equal, or choose augmentation 'anatomical'"
        )
    return transforms
