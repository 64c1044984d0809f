"""The blocks of MedNeXt, which are MONAI's, and of MedNeXt-v2 with either reading of its response norm."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from monai.networks.blocks import MedNeXtBlock, MedNeXtDownBlock, MedNeXtUpBlock
from torch import nn

from adnext_plugin.errors import SettingsError

ResponseNormaliser = Literal["mean", "sum"]
TINY = 1e-6  # added to what a response is divided by


class SummedResponseBlock(MedNeXtBlock):
    """A block whose response norm divides by the sum over channels. MONAI's divides by their mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.act(self.conv2(self.norm(self.conv1(x))))
        response = torch.linalg.vector_norm(inside, dim=(-3, -2, -1), keepdim=True)
        share = response / (response.sum(dim=1, keepdim=True) + TINY)
        inside = self.global_resp_gamma * (inside * share) + self.global_resp_beta + inside
        out = self.conv3(inside)
        return x + out if self.do_res else out


# MONAI's blocks that change the resolution call the plain one; here they find the one above in its place
class SummedResponseDownBlock(MedNeXtDownBlock, SummedResponseBlock):
    """Halves the resolution."""


class SummedResponseUpBlock(MedNeXtUpBlock, SummedResponseBlock):
    """Doubles the resolution."""


@dataclass(frozen=True, kw_only=True)
class MedNeXtBlocks:
    """What the blocks of a network are like; `response_norm` is what theirs divides by, None without one.

    Raises:
        SettingsError: there is no such normaliser.
    """

    kernel_size: int
    response_norm: ResponseNormaliser | None = None

    def __post_init__(self) -> None:
        if self.response_norm not in (None, *get_args(ResponseNormaliser)):
            raise SettingsError(f"grn_normaliser must be mean or sum, got {self.response_norm!r}")

    def level(self, width: int, depth: int, expansion: int) -> list[nn.Module]:
        """Blocks that keep the resolution."""
        kind = SummedResponseBlock if self._sums else MedNeXtBlock
        return [kind(width, width, expansion, **self._options) for _ in range(depth)]

    def down(self, width: int, expansion: int) -> nn.Module:
        """A block that halves the resolution and doubles the width."""
        kind = SummedResponseDownBlock if self._sums else MedNeXtDownBlock
        return kind(width, 2 * width, expansion, **self._options)

    def up(self, width: int, expansion: int) -> nn.Module:
        """A block that doubles the resolution and halves the width."""
        kind = SummedResponseUpBlock if self._sums else MedNeXtUpBlock
        return kind(width, width // 2, expansion, **self._options)

    @property
    def _sums(self) -> bool:
        return self.response_norm == "sum"

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "use_residual_connection": True,
            "global_resp_norm": self.response_norm is not None,
        }
