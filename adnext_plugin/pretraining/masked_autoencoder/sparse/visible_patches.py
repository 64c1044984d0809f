"""Where visible patches lie, and where the tokens are that they see around them."""

from dataclasses import dataclass
from functools import cached_property

import torch

from adnext_plugin.networks.layers.patch_counts import PatchCounts


@dataclass(frozen=True)
class VisiblePatches:
    """The N visible patches of a batch, in order of sample, z, y, x.

    `visible` is (B, gz, gy, gx), True where a patch is visible. Tokens of the patches are (N, p, p, p, C), with p the
    patch's side at a stage; a row is one token of them or of a whole volume (B, gz p, gy p, gx p, C).
    """

    visible: torch.Tensor

    @cached_property
    def per_sample(self) -> tuple[int, ...]:
        """Visible patches of each sample."""
        return tuple(self.visible.flatten(1).sum(1).tolist())

    @cached_property
    def counts(self) -> PatchCounts:
        """The same, for layers."""
        return PatchCounts.of(self.per_sample, self.visible.device)

    @cached_property
    def count(self) -> int:
        """N."""
        return sum(self.per_sample)

    def rows_in_volume(self, side: int) -> torch.Tensor:
        """Row in the whole volume of each visible token, (N p³,)."""
        batch, *grid = self.visible.shape
        rows = torch.arange(self.visible.numel() * side**3, device=self.visible.device)
        cut = rows.view(batch, grid[0], side, grid[1], side, grid[2], side).permute(0, 1, 3, 5, 2, 4, 6)
        return cut[self.visible].flatten()

    def rows_around(self, side: int, margin: int) -> torch.Tensor:
        """Row among the visible tokens of each token in and around a patch, (N, w, w, w) with w = side + 2 margin.

        Where there is none, because it is masked or outside of the volume, the row is N p³: one past the last.
        """
        batch, *grid = self.visible.shape
        rows = self.count * side**3
        padded = torch.full((batch, *[cells * side + 2 * margin for cells in grid]), rows, device=self.visible.device)
        inner = padded[:, margin : -margin or None, margin : -margin or None, margin : -margin or None]
        volume = torch.full((batch * grid[0] * grid[1] * grid[2] * side**3,), rows, device=self.visible.device)
        volume[self.rows_in_volume(side)] = torch.arange(rows, device=self.visible.device)
        inner.copy_(volume.view(inner.shape))
        width = side + 2 * margin
        windows = padded.unfold(1, width, side).unfold(2, width, side).unfold(3, width, side)
        return windows[self.visible]
