"""Even brightness of a brain in MNI152 space, by its white matter alone.

N4 looks at every voxel. Where fluid has taken the place of tissue it finds a darker coil and brightens what is left,
which takes out part of the atrophy that is looked for. White matter says what the coil does without that. The field is
a polynomial of the logarithm, fitted where the template is white matter and the scan looks like it.

Source: polynomials of white matter's intensities: Dawant et al. 1993, IEEE Trans Med Imaging 12:770.
"""

import functools

import numpy as np

from adnext_plugin.preprocessing.anatomy.template import GRID, mni152
from adnext_plugin.preprocessing.anatomy.tissues import white_matter_intensity

ORDER = 3
WHITE = 0.8  # probability in the template
# logarithms of intensities about that of deep white matter; first wide, since a coil may have changed it by as much
FIRST_BAND, LAST_BAND = 0.5, 0.2
ROUNDS = 6
OUTLIER = 2.5  # robust standard deviations
RIDGE = 1e-3  # per voxel: beyond white matter a polynomial would swing
HALF_MM = (72.0, 90.0, 76.0)  # of the brain along x, y, z, to which places are scaled


def evened(volume_zyx: np.ndarray) -> np.ndarray:
    """A brain on the template's grid, divided by the slow change of brightness of its white matter.

    What is brighter in the template's white matter is so in everybody's, and is kept.

    Args:
        volume_zyx: background 0.

    Raises:
        ImageError: there is no brain where the template has white matter.
    """
    template = mni152()
    white, inside = _terms()
    found = volume_zyx[template.white > WHITE] / np.float32(white_matter_intensity(volume_zyx, template.white))
    usual = template.image[template.white > WHITE] / white_matter_intensity(template.image, template.white)
    logs = np.log(np.maximum(found, 1e-3)) - np.log(usual)
    weights = np.zeros(white.shape[1])
    for band in np.linspace(FIRST_BAND, LAST_BAND, ROUNDS):
        away = np.abs(logs - white @ weights)
        likely = away < band
        likely &= away < OUTLIER * 1.4826 * np.median(away[likely])
        terms = white[likely]
        weights = np.linalg.solve(
            terms.T @ terms / len(terms) + RIDGE * np.eye(terms.shape[1]), terms.T @ logs[likely] / len(terms)
        )
    even = volume_zyx.astype(np.float32, copy=True)
    even[template.wide_mask] /= np.exp(inside @ weights).astype(np.float32)
    return even


@functools.cache
def _terms() -> tuple[np.ndarray, np.ndarray]:
    """Powers of places (voxels, terms): of the template's white matter, and of all its brain with a margin."""
    template = mni152()
    return _powers(template.white > WHITE), _powers(template.wide_mask).astype(np.float32)


def _powers(where: np.ndarray) -> np.ndarray:
    places = (np.argwhere(where)[:, ::-1] * np.diag(GRID)[:3] + GRID[:3, 3] - _middle_mm()) / HALF_MM
    return np.stack(
        [
            np.prod(places ** (i, j, k), axis=1)
            for i in range(ORDER + 1)
            for j in range(ORDER + 1 - i)
            for k in range(ORDER + 1 - i - j)
        ],
        axis=1,
    )


def _middle_mm() -> np.ndarray:
    inside = np.argwhere(mni152().mask)
    return (inside.min(axis=0) + inside.max(axis=0))[::-1] / 2 * np.diag(GRID)[:3] + GRID[:3, 3]
