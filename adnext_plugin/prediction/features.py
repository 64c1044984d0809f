"""How unlike the training people a network finds a scan: Mahalanobis distance of its features.

Mean, spread and covariance of the features of a fold's training cases are kept, which are sums over people. What
distance is usual is measured on the fold's other cases: the network has fitted its training cases, and a covariance of
few of them makes their own distances small.

Sources: Lee et al. 2018, NeurIPS (distance; here of one group, as most new scans have no label); Ledoit and Wolf 2004,
J Multivar Anal 88:365 (covariance of fewer cases than features).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from adnext_plugin.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class FeatureProfile:
    """Of a fold's training cases: `mean` (D,), `spread` (D,), and `covariance` (D, D) of features divided by it."""

    mean: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "FeatureProfile":
        """Of features (N, D) of at least two cases."""
        from sklearn.covariance import ledoit_wolf  # takes longer to load than a scan to predict

        spread = features.std(axis=0)
        # a unit that never answers must not divide by nothing, nor be felt when it does answer a little
        spread = np.where(spread > 0, spread, max(float(spread.max()), 1.0))
        mean = features.mean(axis=0)
        covariance, _ = ledoit_wolf((features - mean) / spread, assume_centered=True)
        # all cases alike: no direction counts more than another
        covariance = covariance if np.trace(covariance) > 0 else np.eye(len(mean))
        return cls(
            mean=mean.astype(np.float32), spread=spread.astype(np.float32), covariance=covariance.astype(np.float32)
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], where: str) -> "FeatureProfile":
        """Made of what `arrays` gave; checked.

        Raises:
            BundleError: it is no profile.
        """
        names = ("mean", "spread", "covariance")
        shapes = [arrays[name].shape if name in arrays else None for name in names]
        width = shapes[0][0] if shapes[0] else 0
        if set(arrays) != set(names) or shapes != [(width,), (width,), (width, width)]:
            raise BundleError(f"{where} is not the mean and covariance of features; export the model again")
        profile = cls(**{name: arrays[name] for name in names})
        try:
            is_finite = all(np.isfinite(array).all() for array in arrays.values())
            usable = is_finite and bool((profile.spread > 0).all()) and len(profile._root) == width
        except np.linalg.LinAlgError:
            usable = False
        if not usable:
            raise BundleError(f"{where} holds no usable covariance; export the model again")
        return profile

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distances (N,) of features (N, D) from the training cases."""
        standardised = (features - self.mean) / self.spread
        return np.linalg.norm(solve_triangular(self._root, standardised.T, lower=True), axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` makes it of again."""
        return {"mean": self.mean, "spread": self.spread, "covariance": self.covariance}

    @cached_property
    def _root(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariance.astype(np.float64))
