"""How much of each voxel is cerebrospinal fluid, grey and white matter, from the intensities of a T1-weighted brain.

Intensities are in units of deep white matter, which disease changes least. The histogram is a mixture of five: fluid,
grey and white matter, and two mixtures of neighbours. Between the means of two tissues the share of either changes
linearly; beyond them a voxel is of one tissue. No prior says where a tissue should lie, since strong priors take out
the atrophy that is looked for.

Source: five classes of which two are mixed: Santago and Gage 1993, IEEE Trans Med Imaging 12:566; linear partial
volumes: Shattuck et al. 2001, NeuroImage 13:856. The mean of a mixed class is held midway between those of its
tissues; left free, as in a plain mixture of five, the mean of grey matter wanders between people.
"""

from dataclasses import dataclass

import numpy as np

from adnext_plugin.errors import ImageError

DEEP_WHITE = 0.95  # probability in the template beyond which a voxel is white matter in nearly everybody
DARKEST_WHITE = 0.8  # of the first guess: darker ones are lesions, or lie outside a badly aligned brain
FEWEST_DEEP_VOXELS = 100
# brain extraction takes away most fluid around the brain, so that its mean cannot be told from the histogram
FLUID = 0.3
LEAST, MOST, BINS = 0.12, 1.5, 160  # of the histogram; darker is what interpolation leaves at the brain's edge
START = (FLUID, 0.65, 1.0)
START_DEVIATIONS = (0.1, 0.06, 0.05)
START_SHARES = (0.15, 0.1, 0.35, 0.1, 0.3)
LEAST_DEVIATION, MOST_DEVIATION = 0.03, 0.12
ITERATIONS = 40
GREY_BETWEEN = (0.4, 0.88)  # in units of white matter, in a T1-weighted scan
WHITE_BETWEEN = (0.9, 1.25)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissues:
    """Shares of each voxel, (Z, Y, X) float32, 0 to 1; they sum up to 1 within the mask and to 0 outside.

    `white_intensity` is the scan's intensity of deep white matter; `means` are those of pure fluid, grey and white
    matter in units of it.
    """

    fluid: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    white_intensity: float
    means: tuple[float, float, float]


def white_matter_intensity(volume_zyx: np.ndarray, white: np.ndarray) -> float:
    """Median intensity of deep white matter, found twice: the second time without what is far darker.

    Args:
        volume_zyx: a brain, background 0.
        white: the template's probabilities on the same grid.

    Raises:
        ImageError: there is no brain where the template has white matter.
    """
    deep = volume_zyx[white > DEEP_WHITE]
    deep = deep[deep > 0]
    if deep.size < FEWEST_DEEP_VOXELS:
        raise ImageError("there is no brain where the template has white matter; look at its alignment")
    return float(np.median(deep[deep > DARKEST_WHITE * np.median(deep)]))


def tissues_of(volume_zyx: np.ndarray, mask: np.ndarray, wide_mask: np.ndarray, white: np.ndarray) -> Tissues:
    """Shares of the tissues.

    Args:
        volume_zyx: a brain, background 0.
        mask: the template's brain on the same grid: where the histogram is taken.
        wide_mask: that with a margin; what is background inside it counts as fluid, which brain extraction takes away.
        white: the template's probabilities of white matter.

    Raises:
        ImageError: intensities are not those of a T1-weighted brain.
    """
    intensity = white_matter_intensity(volume_zyx, white)
    relative = np.where(wide_mask, volume_zyx / np.float32(intensity), 0).astype(np.float32)
    means = _means(relative[mask])
    fluid_mean, grey_mean, white_mean = means
    fluid = np.clip((grey_mean - relative) / (grey_mean - fluid_mean), 0, 1) * wide_mask
    bright = np.clip((relative - grey_mean) / (white_mean - grey_mean), 0, 1) * wide_mask
    grey = np.clip(wide_mask - fluid - bright, 0, 1)
    return Tissues(fluid=fluid, grey=grey, white=bright, white_intensity=intensity, means=means)


def _means(relative: np.ndarray) -> tuple[float, float, float]:
    """Intensities of pure fluid, grey and white matter, by expectation maximisation on the histogram.

    Raises:
        ImageError: they are out of order.
    """
    counts, edges = np.histogram(relative, BINS, (LEAST, MOST))
    places = (edges[:-1] + edges[1:]) / 2
    means, deviations, shares = np.array(START), np.array(START_DEVIATIONS), np.array(START_SHARES)
    for _ in range(ITERATIONS):
        parts = _parts(places, means, deviations, shares) * counts
        shares = parts.sum(axis=1) / max(parts.sum(), 1e-12)
        for tissue, part in enumerate(parts[::2]):
            total = max(part.sum(), 1e-12)
            means[tissue] = (part * places).sum() / total if tissue > 0 else FLUID
            spread = np.sqrt((part * (places - means[tissue]) ** 2).sum() / total)
            deviations[tissue] = np.clip(spread, LEAST_DEVIATION, MOST_DEVIATION)
    _, grey, white = means
    if not (GREY_BETWEEN[0] < grey < GREY_BETWEEN[1] and WHITE_BETWEEN[0] < white < WHITE_BETWEEN[1]):
        raise ImageError(
            f"grey and white matter seem to have {grey:.2f} and {white:.2f} of the intensity of deep white matter, "
            f"which is not so in a T1-weighted brain ({GREY_BETWEEN[0]} to {GREY_BETWEEN[1]}, {WHITE_BETWEEN[0]} to "
            f"{WHITE_BETWEEN[1]}); look at it, and exclude it"
        )
    return FLUID, float(grey), float(white)


def _parts(places: np.ndarray, means: np.ndarray, deviations: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(5, bins): to which part each bin belongs to each class; fluid, mixed, grey, mixed, white."""
    middles, spreads = np.empty(5), np.empty(5)
    middles[::2], spreads[::2] = means, deviations
    middles[1::2] = (means[:-1] + means[1:]) / 2
    # of a mixture in which all shares are as likely, with the noise of its two tissues
    spreads[1::2] = np.hypot(np.diff(means) / np.sqrt(12), (deviations[:-1] + deviations[1:]) / 2)
    spreads = np.maximum(spreads, LEAST_DEVIATION)
    heights = np.exp(-(((places - middles[:, None]) / spreads[:, None]) ** 2) / 2) * (shares / spreads)[:, None]
    return heights / np.maximum(heights.sum(axis=0), 1e-12)
