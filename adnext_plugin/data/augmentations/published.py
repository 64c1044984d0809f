"""Augmentations of papers."""

from monai.transforms import Transform

from adnext_plugin.data.augmentations.changes import blur, flips_and_turns, intensity_changes


def paper() -> list[Transform]:
    """Flips along every axis, quarter turns in the axial plane, intensity.

    Source: AD-NeXt, Appendix, fine-tuning.
    """
    return [*flips_and_turns(0.2), *intensity_changes()]


def pretraining() -> list[Transform]:
    """The same without intensity, and rarer.

    Source: AD-NeXt, Appendix, pre-training.
    """
    return flips_and_turns(0.1)


def liu() -> list[Transform]:
    """Blur; to be used with a crop.

    Source: Liu et al. 2022, code.
    """
    return blur(1.0, probability=1.0)


def polimi() -> list[Transform]:
    """Stronger blur, half of the time.

    Source: Cozzoli, Crippa and Taddei 2025, code.
    """
    return blur(1.5, probability=0.5)
