"""Where visible patches lie, and where the tokens are that they see around them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.pretraining.masks import Positions, positions_of


@dataclass(frozen=True)
class VisiblePatches:
    """The N visible patches of a batch, in order of sample, z, y, x.

    `visible` is (B, gz, gy, gx), True where a patch is visible. Tokens of the patches are (N, p, p, p, C), with p the
    patch's side at a stage; a row is one token of them or of a whole volume (B, gz p, gy p, gx p, C).

    Without `each`, what has to be counted is counted on the CPU, where masks are drawn, and sent to `device` once.
    Where every sample is known to have `each` patches, nothing is counted: all is computed on the device from a mask
    that is there, as a recorded graph needs it.
    """

    visible: torch.Tensor
    device: torch.device
    each: int | None = None

    @cached_property
    def per_sample(self) -> tuple[int, ...]:
        """Visible patches of each sample."""
        if self.each is not None:
            return (self.each,) * len(self.visible)
        return tuple(self.visible.cpu().flatten(1).sum(1).tolist())

    @cached_property
    def counts(self) -> PatchCounts:
        """The same, for layers."""
        if self.each is not None:
            return PatchCounts.equal(len(self.visible), self.each, self.device)
        return PatchCounts.of(self.per_sample, self.device)

    @cached_property
    def positions(self) -> Positions:
        """Sample, z, y and x of each visible patch, four times (N,)."""
        return positions_of(self.visible, self.device, None if self.each is None else self.count)

    @cached_property
    def count(self) -> int:
        """N."""
        return sum(self.per_sample)

    def rows_in_volume(self, side: int) -> torch.Tensor:
        """Row in the whole volume of each visible token, (N p³,)."""
        _, *grid = self.visible.shape
        sizes = [cells * side for cells in grid]
        sample, *corner = self.positions
        within = torch.arange(side, device=self.device)
        z, y, x = (start[:, None] * side + within for start in corner)
        planes = (sample[:, None] * sizes[0] + z) * sizes[1]  # (N, p)
        return ((planes[:, :, None, None] + y[:, None, :, None]) * sizes[2] + x[:, None, None, :]).flatten()

    def rows_around(self, side: int, margin: int) -> torch.Tensor:
        """Row among the visible tokens of each token in and around a patch, (N, w, w, w) with w = side + 2 margin.

        Where there is none, because it is masked or outside of the volume, the row is N p³: one past the last.
        """
        batch, *grid = self.visible.shape
        rows = self.count * side**3
        padded = torch.full((batch, *[cells * side + 2 * margin for cells in grid]), rows, device=self.device)
        inner = padded[:, margin : -margin or None, margin : -margin or None, margin : -margin or None]
        volume = torch.full((batch * grid[0] * grid[1] * grid[2] * side**3,), rows, device=self.device)
        volume[self.rows_in_volume(side)] = torch.arange(rows, device=self.device)
        inner.copy_(volume.view(inner.shape))
        width = side + 2 * margin
        windows = padded.unfold(1, width, side).unfold(2, width, side).unfold(3, width, side)
        return windows[self.positions]

    def around_cells(self, side: int, edge: int, reach: int) -> torch.Tensor:
        """First of the tokens (N p³, C) of each cell around one, (cells, W, W, W) in int32 with W = 2 reach + 1.

        Patches are cut into cells of edge³ tokens; the cells of a patch follow one another. Where a cell is masked or
        outside of the volume, it is -1.

        Args:
            side: p, a multiple of the edge.
            edge: of a cell.
            reach: cells to each side.
        """
        batch, *grid = self.visible.shape
        each = side // edge  # cells along a patch
        first = torch.full((batch, *grid), -1, dtype=torch.int32, device=self.device)
        first[self.positions] = torch.arange(self.count, dtype=torch.int32, device=self.device) * side**3
        within = torch.arange(each, dtype=torch.int32, device=self.device) * edge
        corner = (within[:, None, None] * side + within[:, None]) * side + within
        cells = first[:, :, None, :, None, :, None] + corner[:, None, :, None, :]
        cells = torch.where(first[:, :, None, :, None, :, None] >= 0, cells, -1)
        cells = cells.reshape(batch, *[length * each for length in grid])
        width = 2 * reach + 1
        windows = F.pad(cells, (reach,) * 6, value=-1).unfold(1, width, 1).unfold(2, width, 1).unfold(3, width, 1)
        sample, *starts = self.positions
        places = torch.arange(each, device=self.device)
        z, y, x = (start[:, None] * each + places for start in starts)
        sample = sample[:, None, None, None]
        found = windows[sample, z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
        return found.reshape(-1, width, width, width)


def whole_volume(rows_nc: torch.Tensor, rows: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Tokens put to their rows in a volume of zeros, (*size, C)."""
    channels = rows_nc.shape[-1]
    return rows_nc.new_zeros(math.prod(size), channels).index_copy(0, rows, rows_nc).view(*size, channels)
