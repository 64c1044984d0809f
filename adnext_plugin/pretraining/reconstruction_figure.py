"""What a masked autoencoder makes of scans, as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adnext_plugin.files import replacing

PLANES = ("axial", "coronal", "sagittal")  # through the middle of z, y and x
VERSIONS = ("original", "visible", "reconstructed")


def draw_reconstructions(scans: Sequence[tuple[np.ndarray, ...]], path: Path) -> None:
    """Draw one row per scan: three planes, each original, masked (NaN where hidden) and reconstructed.

    Args:
        scans: triples of (Z, Y, X) volumes in RAS orientation.
        path: PNG file.
    """
    columns = len(PLANES) * len(VERSIONS)
    figure = Figure(figsize=(1.7 * columns, 1.9 * len(scans) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(scans), columns, squeeze=False)
    for column, axes in enumerate(panels[0]):
        plane, version = divmod(column, len(VERSIONS))
        axes.set_title(f"{PLANES[plane]}\n{VERSIONS[version]}", fontsize=8)
    for row, volumes in zip(panels, scans, strict=True):
        low, high = np.percentile(volumes[0], (1, 99.5))
        for plane in range(len(PLANES)):
            for version, volume in enumerate(volumes):
                axes = row[plane * len(VERSIONS) + version]
                middle = np.take(volume, volume.shape[plane] // 2, axis=plane)
                axes.imshow(middle, origin="lower", cmap="gray", vmin=low, vmax=high)
                axes.set_facecolor("tab:blue")
                axes.set(xticks=[], yticks=[])
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
