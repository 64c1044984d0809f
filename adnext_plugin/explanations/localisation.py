"""How well a map finds regions that are known to be the right ones, with chance beside every number."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Of the sizes of one map's values: a map may say of the right region that it speaks for the target or against it.

    `average_precision`: area under precision and recall of the voxels of the brain. `hit`: whether the largest size is
    in the regions. `mass_share`: share of the sum of sizes that lies there. `chance`: share of the brain that the
    regions are, which is what each of the three would be of a map that knows nothing.
    """

    average_precision: float
    hit: bool
    mass_share: float
    chance: float


def localisation(map_zyx: np.ndarray, truth_zyx: np.ndarray, brain_zyx: np.ndarray) -> Localisation | None:
    """Compare a map with the truth; None where the brain holds none of the regions, or nothing else.

    Args:
        map_zyx: importance.
        truth_zyx: true in the right regions.
        brain_zyx: true in the brain.
    """
    sizes, truth = np.abs(map_zyx[brain_zyx]).astype(np.float64), truth_zyx[brain_zyx]
    if not truth.any() or truth.all():
        return None
    chance = float(truth.mean())
    return Localisation(
        average_precision=float(average_precision_score(truth, sizes)),
        # of several largest, any may be pointed at: a map that is the same everywhere hits nothing by being so
        hit=bool(truth[sizes == sizes.max()].all()),
        mass_share=float(sizes[truth].sum() / sizes.sum()) if sizes.sum() > 0 else chance,
        chance=chance,
    )
