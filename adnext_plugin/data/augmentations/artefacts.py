"""What goes wrong in a scanner, as formulas: each makes of a volume with intensities in [0, 1] a worse one.

They are functions of a volume and of numbers that have been drawn already. `amaes` says how often, and draws. None
writes into what it is given; keeping within the range of what they were given is left to the caller, too.

Source: Munk et al. 2024 (AMAES), Table 1, and what is known of its code.
"""

from collections.abc import Sequence

import numpy as np
from skimage.transform import resize

NORM_FLOOR = 1e-7  # of a range that is divided by


def additive_noise(volume_zyx: np.ndarray, noise_zyx: np.ndarray) -> np.ndarray:
    """x + n."""
    return volume_zyx + noise_zyx


def multiplicative_noise(volume_zyx: np.ndarray, noise_zyx: np.ndarray) -> np.ndarray:
    """x + x · n."""
    return volume_zyx + volume_zyx * noise_zyx


def motion_ghosting(volume_zyx: np.ndarray, axis: int, every: int, factor: float) -> np.ndarray:
    """Every so many planes of k-space along an axis, from that of frequency 0 on, times a factor; then the modulus.

    As the plane of frequency 0 is among them, the image darkens. What happens along one axis of k-space needs no
    transform along the others.
    """
    spectrum = np.fft.fft(volume_zyx, axis=axis)
    planes: list[slice] = [slice(None)] * 3
    planes[axis] = slice(None, None, every)
    spectrum[tuple(planes)] *= factor
    return np.abs(np.fft.ifft(spectrum, axis=axis)).astype(volume_zyx.dtype)


def gibbs_ringing(volume_zyx: np.ndarray, axis: int, kept: int) -> np.ndarray:
    """Only the central frequencies of an axis, `kept` of them; then the modulus."""
    length = volume_zyx.shape[axis]
    start = length // 2 - kept // 2  # frequency 0 is at length // 2 once shifted
    is_kept = np.zeros(length, dtype=bool)
    is_kept[start : start + kept] = True
    along = np.fft.ifftshift(is_kept).reshape([-1 if one == axis else 1 for one in range(3)])
    return np.abs(np.fft.ifft(np.fft.fft(volume_zyx, axis=axis) * along, axis=axis)).astype(volume_zyx.dtype)


def low_resolution(volume_zyx: np.ndarray, zoom: Sequence[float]) -> np.ndarray:
    """Down to a share of each axis by the nearest voxel, and up again by cubic splines."""
    small = [max(1, round(length * share)) for length, share in zip(volume_zyx.shape, zoom, strict=True)]
    if small == list(volume_zyx.shape):
        return volume_zyx.copy()
    coarse = resize(volume_zyx, small, order=0, mode="edge", anti_aliasing=False, preserve_range=True)
    fine = resize(coarse, volume_zyx.shape, order=3, mode="edge", anti_aliasing=False, preserve_range=True)
    return fine.astype(volume_zyx.dtype)


def bias_field(volume_zyx: np.ndarray, centre_zyx: Sequence[int]) -> np.ndarray:
    """Times 1 − Σ ((position − centre) / size)² over the axes: 1 at the centre, down to −2 in a far corner."""
    field = np.ones((), dtype=np.float64)
    for axis, (length, centre) in enumerate(zip(volume_zyx.shape, centre_zyx, strict=True)):
        distance = (np.arange(length) - centre) / length
        field = field - (distance**2).reshape([-1 if one == axis else 1 for one in range(3)])
    return (volume_zyx * field).astype(volume_zyx.dtype)


def gamma(volume_zyx: np.ndarray, exponent: float, inverted: bool) -> np.ndarray:
    """A power of intensities brought to [0, 1] by their range, and back; inverted: of the negative image."""
    sign = -1 if inverted else 1
    flipped = sign * volume_zyx
    low, spread = flipped.min(), max(float(np.ptp(flipped)), NORM_FLOOR)
    return (sign * (((flipped - low) / spread) ** exponent * spread + low)).astype(volume_zyx.dtype)
