"""What masked modelling of tokens is allowed to vary."""

from typing import Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record


@record
class SimMIMOptions:
    """Defaults: Dhinagar et al. 2023."""

    mask_ratio: float = 0.9
    token_voxels: int = 16  # edge of what is masked or visible as one, a multiple of the encoder's patches
    decoder: Literal["linear", "vitautoenc"] = "linear"  # or MONAI's two transposed convolutions
    loss_on: Literal["masked", "masked_brain"] = "masked"  # or of what is masked, only where there is brain

    def __post_init__(self) -> None:
        _require_tokens(self.token_voxels)


@record
class MAEOptions:
    """Defaults: He et al. 2022, with the decoder of MONAI's masked autoencoder."""

    mask_ratio: float = 0.75
    token_voxels: int = 16  # edge of what is masked or visible as one, a multiple of the encoder's patches
    decoder_width: int = 384
    decoder_mlp_width: int = 512
    decoder_depth: int = 4
    decoder_heads: int = 12
    norm_pix_loss: bool = False  # predict each token's voxels brought to mean 0 and variance 1
    loss_on: Literal["masked", "masked_brain"] = "masked"  # or of what is masked, only where there is brain

    def __post_init__(self) -> None:
        _require_tokens(self.token_voxels)
        sizes = (self.decoder_width, self.decoder_mlp_width, self.decoder_depth, self.decoder_heads)
        if min(sizes) < 1 or self.decoder_width % self.decoder_heads or self.decoder_width % 6:
            raise SettingsError(
                "decoder_width must be a multiple of decoder_heads and of 6, and all sizes of the decoder positive, "
                f"got {self.decoder_width} and {self.decoder_heads}"
            )


def _require_tokens(token_voxels: int) -> None:
    if token_voxels < 1:
        raise SettingsError(f"token_voxels must be at least 1, got {token_voxels}")
