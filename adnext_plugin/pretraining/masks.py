"""Which patches of a scan a pre-training step sees.

A mask is always handed on as an argument. It is never kept in a module and never read off the values: the background of
a skull-stripped scan is zero, and still visible.
"""

from collections.abc import Sequence

import numpy as np
import torch

from adnext_plugin.errors import SettingsError

TOTAL_STRIDE = 32  # of the encoder; only patches made of whole strides are wholly visible or wholly masked everywhere


def patch_grid(input_size_voxels: Sequence[int], patch_size_voxels: int) -> tuple[int, int, int]:
    """How many patches lie along z, y and x.

    Raises:
        SettingsError: patches do not fit the encoder or the input.
    """
    if patch_size_voxels < TOTAL_STRIDE or patch_size_voxels % TOTAL_STRIDE:
        raise SettingsError(
            f"patch_size_voxels must be a multiple of the encoder's stride of {TOTAL_STRIDE}, got {patch_size_voxels}"
        )
    return token_grid(input_size_voxels, patch_size_voxels)


def token_grid(input_size_voxels: Sequence[int], token_voxels: int) -> tuple[int, int, int]:
    """How many blocks of an edge lie along z, y and x.

    Raises:
        SettingsError: blocks do not fit the input.
    """
    if any(size % token_voxels for size in input_size_voxels):
        raise SettingsError(
            f"an input of {list(input_size_voxels)} voxels cannot be cut into patches of {token_voxels}; plan "
            "again with an --input-size of whole patches"
        )
    z, y, x = (size // token_voxels for size in input_size_voxels)
    return z, y, x


def visible_count(patches: int, mask_ratio: float) -> int:
    """Patches that stay visible, rounded down as in ConvNeXt V2: 25 of 64 at a ratio of 0.6.

    Raises:
        SettingsError: nothing would be visible, or nothing masked.
    """
    if not 0 < mask_ratio < 1:
        raise SettingsError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}")
    visible = int(patches * (1 - mask_ratio))
    if not 0 < visible < patches:
        raise SettingsError(
            f"mask_ratio {mask_ratio} leaves {visible} of {patches} patches visible; choose one that leaves some "
            "visible and some masked, or smaller patches"
        )
    return visible


def draw_visible(grid: Sequence[int], mask_ratio: float, seeds: Sequence[Sequence[int]]) -> torch.Tensor:
    """Draw each sample's visible patches.

    Args:
        grid: patches along z, y and x.
        mask_ratio: share of patches to mask.
        seeds: one sequence of integers per sample; equal ones give equal masks.

    Returns:
        (B, *grid), True where a patch is visible.
    """
    patches = int(np.prod(grid))
    count = visible_count(patches, mask_ratio)
    visible = np.zeros((len(seeds), patches), dtype=bool)
    for sample, seed in zip(visible, seeds, strict=True):
        sample[np.random.default_rng(tuple(seed)).permutation(patches)[:count]] = True
    return torch.from_numpy(visible.reshape(-1, *grid))


def split_into_patches(images_bczyx: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """View (B, C, Z, Y, X) as patches (B, *grid, C, pz, py, px); nothing is copied."""
    (batch, channels, *size), (z, y, x) = images_bczyx.shape, grid
    cut = images_bczyx.reshape(batch, channels, z, size[0] // z, y, size[1] // y, x, size[2] // x)
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7)


def join_patches(patches: torch.Tensor) -> torch.Tensor:
    """Undo `split_into_patches`."""
    batch, z, y, x, channels, pz, py, px = patches.shape
    return patches.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(batch, channels, z * pz, y * py, x * px)


Positions = tuple[torch.Tensor, ...]


def positions_of(mask: torch.Tensor, device: torch.device, count: int | None = None) -> Positions:
    """Where a mask is True, in order, as an index for tensors on a device.

    Args:
        mask: of any shape; best on the CPU unless `count` is given, since what is found there has to be counted.
        device: of the index.
        count: how often it is True, where that is known: then nothing is counted, and nobody waits for a GPU.
    """
    if count is None:
        return tuple(axis.to(device, non_blocking=True) for axis in mask.cpu().nonzero(as_tuple=True))
    rest = mask.flatten().to(torch.uint8).argsort(descending=True, stable=True)[:count].to(device, non_blocking=True)
    positions = []
    for length in reversed(mask.shape):  # torch's own `unravel_index` sends lengths to a GPU
        positions.append(rest % length)
        rest = rest // length
    return tuple(reversed(positions))


def mask_voxels(visible: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A mask of patches (B, gz, gy, gx) as a mask of voxels or tokens, (B, *size)."""
    for axis, length in enumerate(size, start=1):
        visible = visible.repeat_interleave(length // visible.shape[axis], dim=axis)
    return visible
