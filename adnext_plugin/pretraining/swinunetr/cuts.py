"""Quarter turns and cut-outs, drawn from the seeds of the cases.

Source: Tang et al. 2022 (SwinUNETR), code: boxes of 5 to 25 % of each edge until the drawn share of the volume, counted
box by box, is reached; filled with noise between 0 and 1, and then, if another scan of the batch is drawn, again with
that scan's voxels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

SHORTEST, LONGEST = 0.05, 0.25  # of a scan's edge
AXES = {"zy": (-3, -2), "zx": (-3, -1), "yx": (-2, -1)}


def turned(images_bczyx: torch.Tensor, turns: Sequence[int], plane: str) -> torch.Tensor:
    """Each scan turned by so many quarters."""
    scans = zip(images_bczyx, turns, strict=True)
    return torch.stack([torch.rot90(scan, quarters, AXES[plane]) for scan, quarters in scans])


def cut(
    images_bczyx: torch.Tensor, largest: float, randoms: Sequence[np.random.Generator]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut boxes out of each scan.

    Args:
        images_bczyx: scans, left as they are.
        largest: share of a scan that is cut out at most, twice.
        randoms: a generator for each scan.

    Returns:
        Scans with other things in their boxes, and where these are, (B, Z, Y, X).
    """
    found = images_bczyx.clone()
    is_cut = torch.zeros_like(found[:, 0], dtype=torch.bool)
    size = found.shape[2:]
    for index, random in enumerate(randoms):
        for z, y, x in boxes(size, largest, random):
            noise = random.standard_normal(found[index, :, z, y, x].shape)
            noise = (noise - noise.min()) / max(np.ptp(noise), np.finfo(float).tiny)
            values = torch.from_numpy(noise).to(found.dtype)
            found[index, :, z, y, x] = values.to(found.device, non_blocking=True)
            is_cut[index, z, y, x] = True
        other = int(random.integers(len(found)))
        if other == index:
            continue
        for z, y, x in boxes(size, largest, random):
            found[index, :, z, y, x] = images_bczyx[other, :, z, y, x]
            is_cut[index, z, y, x] = True
    return found, is_cut


def boxes(size: Sequence[int], largest: float, random: np.random.Generator) -> Iterator[tuple[slice, ...]]:
    """Boxes until a drawn share of the volume, `largest` at most, is reached."""
    wanted, covered = random.uniform(0, largest) * float(np.prod(size)), 0.0
    while covered < wanted:
        box = []
        for length in size:
            shortest, longest = max(1, int(SHORTEST * length)), max(1, int(LONGEST * length))
            start = int(random.integers(0, length - shortest + 1))
            box.append(slice(start, min(start + int(random.integers(shortest, longest + 1)), length)))
        covered += float(np.prod([side.stop - side.start for side in box]))
        yield tuple(box)
