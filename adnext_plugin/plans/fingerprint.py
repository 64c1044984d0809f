"""nnU-Net's dataset fingerprint for datasets without segmentations."""

from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor

from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.errors import AdnextError, ImageError
from adnext_plugin.files import write_json
from adnext_plugin.parallel import for_each
from adnext_plugin.paths import preprocessed_dir
from adnext_plugin.plans.case_statistics import CaseStatistics, measure_case
from adnext_plugin.plans.listing import listing_in_linear_time

MOST_VOXELS_PER_CASE = 10_000
MOST_VOXELS = 10_000_000  # of all cases together, so that memory does not grow with their number


class ADNeXtFingerprintExtractor(fingerprint_extractor.DatasetFingerprintExtractor):
    """Takes what is above 0 for the foreground, and leaves out scans that cannot be read.

    Args:
        dataset: full name, or number.
        num_processes: how many scans at once.
        verbose: accepted for nnU-Net's sake.
        cluster: to measure scans on instead of on this machine.
    """

    def __init__(
        self, dataset: str | int, num_processes: int = 8, verbose: bool = False, cluster: Cluster | None = None
    ) -> None:
        self.cluster = cluster
        with listing_in_linear_time(fingerprint_extractor):
            super().__init__(dataset, num_processes, verbose)

    def run(self, overwrite_existing: bool = False) -> dict:
        """Measure every case and write `dataset_fingerprint.json`.

        Args:
            overwrite_existing: accepted for nnU-Net's sake; scans may have changed, so it is always made anew.

        Raises:
            ImageError: not one scan can be read.
        """
        images = [[Path(image) for image in case["images"]] for case in self.dataset.values()]
        if not images:
            raise ImageError(f"{self.input_folder}/imagesTr holds no scan; import the dataset again with adnext_import")
        voxels = max(1, min(MOST_VOXELS_PER_CASE, MOST_VOXELS // len(images)))
        measure = partial(measure_case, voxels=voxels)
        outcomes = for_each(
            measure, images, processes=self.num_processes, description="Fingerprint", cluster=self.cluster
        )
        by_index = dict(outcomes)
        usable = [
            found for _, found in sorted(by_index.items(), key=itemgetter(0)) if not isinstance(found, AdnextError)
        ]
        if not usable:
            raise ImageError(f"no scan of {self.dataset_name} can be used; the first: {by_index[0]}")
        fingerprint = _fingerprint(usable)
        write_json(fingerprint, preprocessed_dir() / self.dataset_name / "dataset_fingerprint.json")
        return fingerprint


def _fingerprint(cases: list[CaseStatistics]) -> dict:
    of_channels = np.concatenate([case.intensities for case in cases], axis=1).astype(np.float64)
    return {
        "spacings": [list(case.spacing_mm) for case in cases],
        "shapes_after_crop": [list(case.shape_after_crop) for case in cases],
        "foreground_intensity_properties_per_channel": {
            str(place): _of_channel(found[~np.isnan(found)]) for place, found in enumerate(of_channels)
        },
        "median_relative_size_after_cropping": float(np.median([case.relative_size_after_crop for case in cases])),
    }


def _of_channel(intensities: np.ndarray) -> dict[str, float]:
    """By the keys that nnU-Net expects; 0 of a channel that nobody has."""
    if not intensities.size:
        intensities = np.zeros(1)
    low, median, high = np.percentile(intensities, (0.5, 50.0, 99.5))
    return {
        "mean": float(intensities.mean()),
        "median": float(median),
        "std": float(intensities.std()),
        "min": float(intensities.min()),
        "max": float(intensities.max()),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }
