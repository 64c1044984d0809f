"""Where the brain is in a prepared image, and what stands in for what is taken out of it."""

from typing import Literal

import numpy as np

# the image's background; 0; the mean over the brain, of each channel; or this number. In images that the package
# prepares, background and the mean over the brain are both close to 0
Fill = Literal["background", "zero", "mean"] | float


def background(image_czyx: np.ndarray) -> np.ndarray:
    """The value that is the commonest on the six faces of each channel, (C, 1, 1, 1)."""
    found = []
    for volume_zyx in image_czyx:
        faces = [np.take(volume_zyx, (0, -1), axis=axis).ravel() for axis in range(3)]
        values, counts = np.unique(np.concatenate(faces), return_counts=True)
        found.append(values[counts.argmax()])
    return np.array(found).reshape(-1, 1, 1, 1)


def brain_of(image_czyx: np.ndarray) -> np.ndarray:
    """Where any channel is not background, (Z, Y, X)."""
    return (image_czyx != background(image_czyx)).any(axis=0)


def filled_with(fill: Fill, image_czyx: np.ndarray) -> np.ndarray:
    """What stands in for voxels of each channel, (C, 1, 1, 1) float32."""
    if fill == "background":
        return background(image_czyx).astype(np.float32)
    brain_zyx = brain_of(image_czyx)
    if fill == "mean" and brain_zyx.any():
        means = image_czyx[:, brain_zyx].astype(np.float64).mean(axis=1)
        return means.astype(np.float32).reshape(-1, 1, 1, 1)
    value = 0.0 if isinstance(fill, str) else fill
    return np.full((len(image_czyx), 1, 1, 1), value, dtype=np.float32)
