"""What a fully convolutional masked autoencoder is allowed to vary."""

from typing import Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record


@record
class FCMAEOptions:
    """Defaults: the AD-NeXt paper, Table 6."""

    mask_ratio: float = 0.6
    patch_size_voxels: int = 32
    decoder_width: int = 128
    norm_pix_loss: bool = False  # predict each patch brought to mean 0 and variance 1
    sparse_backend: Literal["gathered", "masked_dense", "minkowski", "masked_once"] = "gathered"
    # how each stage of the gathered backend convolves; None: what is faster here, measured when a run begins
    sparse_convolution: tuple[Literal["halo", "scatter", "skip"], ...] | None = None

    def __post_init__(self) -> None:
        if self.decoder_width < 1:
            raise SettingsError(f"decoder_width must be at least 1, got {self.decoder_width}")
