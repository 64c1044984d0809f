"""Video Swin-T on scans: torchvision's, the encoder set apart, with or without weights learned from Kinetics-400.

A scan of one channel is shown as three equal ones, as the video weights expect. Other numbers of channels get a stem of
their own; from video weights it takes the mean over colours, scaled so that equal channels are answered as three are.

Source: Liu et al. 2022 (Video Swin Transformer); used on T1-weighted scans by Dhinagar et al. 2023. Where a window is
larger than what is left of the scan, torchvision's positions within it are not those learned from video.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torchvision.models.video import Swin3D_T_Weights, SwinTransformer3d
from torchvision.models.video import swin3d_t as torchvision_swin3d_t

from adnext_plugin.errors import WeightsError
from adnext_plugin.files import require_file
from adnext_plugin.networks.classifier import Classifier, require_input_size, require_rate

VIDEO_URL = Swin3D_T_Weights.KINETICS400_V1.url
# torchvision names its files by the first digits of their SHA-256
VIDEO_SHA256_PREFIX = VIDEO_URL.removesuffix(".pth").rpartition("-")[2]
VIDEO_CHANNELS = 3
MERGED = 8  # tokens along y and x that become one, by three mergings; z keeps its own
Size = tuple[int, int, int]


class SwinEncoder(nn.Module):
    """Scan (B, C, Z, Y, X) to features (B, 768), by a Swin without head."""

    def __init__(self, network: SwinTransformer3d) -> None:
        super().__init__()
        self.network = network
        self.token_width, self.width = network.patch_embed.proj.out_channels, network.num_features
        self.patch_voxels = cast(Size, network.patch_embed.tuple_patch_size)
        z, y, x = self.patch_voxels
        self.cell_voxels = (z, y * MERGED, x * MERGED)

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return self.network(self._coloured(x_bczyx))

    def patches(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """Tokens (B, gz, gy, gx, 96) of a scan."""
        return self.network.patch_embed(self._coloured(x_bczyx))

    def encode_grid(self, tokens_bzyxd: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of tokens, (B, gz, gy / 8, gx / 8, 768)."""
        return self.network.norm(self.network.features(self.network.pos_drop(tokens_bzyxd)))

    def _coloured(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return x_bczyx.expand(-1, VIDEO_CHANNELS, -1, -1, -1) if x_bczyx.shape[1] == 1 else x_bczyx


def swin3d_t(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (80, 80, 80),
    *,
    kinetics_weights: str | None = None,
    dropout_rate: float = 0.0,
) -> Classifier:
    """Build Video Swin-T; 27,852,008 parameters with one or three channels and two outputs.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; padded to whole patches of 2 × 4 × 4.
        kinetics_weights: torchvision's file swin3d_t-7615ae03.pth on this machine; None: fresh weights.
        dropout_rate: of embeddings and MLPs.

    Raises:
        SettingsError: the input is too small, or the rate out of range.
        PathsError: no such file.
        WeightsError: it is another file.
    """
    require_input_size("swin3d_t", input_size_voxels, smallest=32)
    require_rate("dropout_rate", dropout_rate)
    network = torchvision_swin3d_t(dropout=dropout_rate)
    features = network.head.in_features
    network.head = nn.Identity()
    if kinetics_weights is not None:
        network.load_state_dict(_read_video_weights(Path(kinetics_weights), network))
    if in_channels not in (1, VIDEO_CHANNELS):
        network.patch_embed.proj = _stem_for(in_channels, network.patch_embed.proj, kinetics_weights is not None)
    head = nn.Linear(features, num_outputs)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return Classifier(SwinEncoder(network), head)


def _stem_for(in_channels: int, video_stem: nn.Conv3d, learned: bool) -> nn.Conv3d:
    # a convolution knows its sizes as tuples of any length
    kernel_zyx, stride_zyx = cast(Size, video_stem.kernel_size), cast(Size, video_stem.stride)
    stem = nn.Conv3d(in_channels, video_stem.out_channels, kernel_zyx, stride_zyx)
    if learned:
        mean_over_colours = video_stem.weight.detach().mean(dim=1, keepdim=True)
        shape = stem.weight.shape
        stem.weight = nn.Parameter((mean_over_colours * (VIDEO_CHANNELS / in_channels)).expand(shape).clone())
        assert video_stem.bias is not None  # torchvision's has one
        stem.bias = nn.Parameter(video_stem.bias.detach().clone())
    return stem


def _read_video_weights(path: Path, network: nn.Module) -> dict[str, torch.Tensor]:
    """The file's tensors but those of its head of 400 classes."""
    remedy = f"download {VIDEO_URL} and give its path as kinetics_weights"
    require_file(path, remedy)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(VIDEO_SHA256_PREFIX):
        raise WeightsError(
            f"{path} has SHA-256 {digest[:8]}..., not {VIDEO_SHA256_PREFIX}... as torchvision's file: {remedy}"
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {remedy}") from error
    shapes = {name: tensor.shape for name, tensor in saved.items() if not name.startswith("head.")}
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if shapes != wanted:
        odd = sorted(name for name in shapes.keys() | wanted.keys() if shapes.get(name) != wanted.get(name))
        raise WeightsError(f"{path} does not fit swin3d_t in {len(odd)} tensors, the first is {odd[0]}: {remedy}")
    return {name: saved[name] for name in wanted}
