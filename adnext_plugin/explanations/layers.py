"""What a network has made of an image at one of its layers, as a volume, and how the score hangs on it.

Convolutional networks give volumes (B, C, Z, Y, X). AD-NeXt and Swin keep channels last, transformers give tokens
(B, T, C), with tokens that stand for no place in front, and MiNiT gives those of each block of the image: all of them
are brought into the form (C, Z, Y, X).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from monai.networks.blocks import MedNeXtBlock, TransformerBlock
from monai.networks.nets.densenet import _DenseLayer
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import nn
from torchvision.models.video import SwinTransformer3d
from torchvision.models.video.swin_transformer import SwinTransformerBlock

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.networks.families.adnext import ADNeXtEncoder, Block
from adnext_plugin.networks.families.minit import BLOCKS_PER_AXIS, BlockEncoder
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.with_covariates import network_of_images

CHANNELS_LAST = (ADNeXtEncoder, SwinTransformer3d)
# in them, too, these give channels first
OF_VOLUMES = (
    nn.Conv3d,
    nn.ReLU,
    DepthwiseConv3d,
    nn.BatchNorm3d,
    nn.AvgPool3d,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool3d,
)
BLOCKS = (Block, TransformerBlock, SwinTransformerBlock, MedNeXtBlock, ResNetBlock, ResNetBottleneck, _DenseLayer)
MOST_EXTRA_TOKENS = 2  # class and distillation


class Layers:
    """The layers of a network that answers about images, by their dotted names.

    Args:
        explained: the network. Names are those of the network of the image, without the part for covariates.
    """

    def __init__(self, explained: ExplainedNetwork) -> None:
        self._explained = explained
        self._network = network_of_images(explained.network)
        self._by_name = {name: module for name, module in self._network.named_modules() if name}
        self._is_channels_last = any(isinstance(module, CHANNELS_LAST) for module in self._network.modules())
        self._is_cut_into_blocks = any(isinstance(module, BlockEncoder) for module in self._network.modules())

    @property
    def explained(self) -> ExplainedNetwork:
        """The network."""
        return self._explained

    @property
    def names(self) -> tuple[str, ...]:
        """Of all layers, in the order in which the network holds them."""
        return tuple(self._by_name)

    def spatial_blocks(self) -> tuple[str, ...]:
        """The blocks that the network is made of, from input to output; of one that has none its convolutions.

        Those that leave a single place are left out.
        """
        names = [name for name, module in self._by_name.items() if isinstance(module, BLOCKS)]
        names = names or [name for name, module in self._by_name.items() if isinstance(module, nn.Conv3d)]
        found: dict[str, bool] = {}

        def note(name: str, output: torch.Tensor) -> None:
            found[name] = output.ndim == 3 or self._volume(name, output)[0].numel() > 1

        with self._hooked(names, note), torch.no_grad():
            self._explained.scores(self._blank(), 0)
        return tuple(name for name in names if found.get(name))

    def last_spatial(self) -> str:
        """The last layer that still tells places apart, whose features the answer is made of.

        Of a transformer it is the norm that the last attention reads: behind it, a class token alone may count.

        Raises:
            SettingsError: there is none.
        """
        blocks = [name for name, module in self._by_name.items() if isinstance(module, TransformerBlock)]
        if blocks:
            return f"{blocks[-1]}.norm1"
        found: dict[str, None] = {}  # in the order in which layers are used last

        def note(name: str, output: torch.Tensor) -> None:
            found.pop(name, None)  # of a layer that is used several times, the last counts
            if output.ndim == 5 and self._volume(name, output)[0].numel() > 1:
                found[name] = None

        with self._hooked(self.names, note), torch.no_grad():
            self._explained.scores(self._blank(), 0)
        if not found:
            raise SettingsError("no layer of the network tells places apart, so that there is nothing to show at one")
        return list(found)[-1]

    def features(self, image_bczyx: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Features of one image at layers, (C, Z, Y, X) each; of a layer that is used several times, the last.

        Args:
            image_bczyx: a batch of one.
            names: of layers.

        Raises:
            UnknownNameError: there is no such layer.
            SettingsError: it does not tell places apart, or the network does not use it.
        """
        kept: dict[str, torch.Tensor] = {}
        with self._hooked(names, kept.__setitem__), torch.no_grad():
            self._explained.scores(image_bczyx, 0)
        return {name: self._spatial(name, kept.get(name)) for name in names}

    def features_and_gradient(
        self, image_bczyx: torch.Tensor, target: int, name: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of one image at a layer and the gradient of the score by them, both (C, Z, Y, X).

        Args:
            image_bczyx: a batch of one.
            target: index of the output.
            name: of the layer.

        Raises:
            UnknownNameError, SettingsError: as `features`.
        """
        kept: dict[str, torch.Tensor] = {}

        def keep(name: str, output: torch.Tensor) -> torch.Tensor:
            # what lies before needs no gradient, and what follows may work in place
            kept[name] = output.detach().requires_grad_()
            return kept[name].clone()

        with self._hooked([name], keep), torch.enable_grad():
            score = self._explained.scores(image_bczyx, target).sum()
        features = self._spatial(name, kept.get(name)).detach()
        gradient = None
        if score.requires_grad:
            with self._explained.arithmetic():
                (gradient,) = torch.autograd.grad(score, kept[name], allow_unused=True)
        return features, self._spatial(name, torch.zeros_like(kept[name]) if gradient is None else gradient)

    @contextmanager
    def _hooked(self, names: Sequence[str], see: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
        """Let `see` have the outputs of layers within the block; what it gives takes their place."""
        unknown = [name for name in names if name not in self._by_name]
        if unknown:
            raise UnknownNameError(f"the network has no layer {unknown[0]!r}{_nearest(unknown[0], self.names)}")

        def hook_of(name: str) -> Callable[..., torch.Tensor | None]:
            return lambda _module, _inputs, output: see(name, output) if isinstance(output, torch.Tensor) else None

        hooks = [self._by_name[name].register_forward_hook(hook_of(name)) for name in names]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _blank(self) -> torch.Tensor:
        return torch.zeros((1, *self._explained.image_shape), device=self._explained.device)

    def _spatial(self, name: str, output: torch.Tensor | None) -> torch.Tensor:
        if output is None:
            raise SettingsError(f"layer {name!r} gives no features of an image; choose {self.last_spatial()!r}")
        volume = None
        if output.ndim == 5:
            volume = self._volume(name, output)
        elif output.ndim == 3:
            volume = self._of_tokens(output)
        if volume is None or volume[0].numel() < 2:
            raise SettingsError(
                f"layer {name!r} does not tell places apart (its output is {tuple(output.shape)}); choose an earlier "
                f"one, such as {self.last_spatial()!r}"
            )
        return volume

    def _volume(self, name: str, output: torch.Tensor) -> torch.Tensor:
        is_last = self._is_channels_last and not isinstance(self._by_name[name], OF_VOLUMES)
        return output[-1].movedim(-1, 0) if is_last else output[-1]

    def _of_tokens(self, tokens_btc: torch.Tensor) -> torch.Tensor | None:
        """Tokens on the grid of their patches, which are cubes; None where they are of no such grid."""
        sizes: tuple[int, ...] = self._explained.image_shape[1:]
        if self._is_cut_into_blocks:
            sizes = tuple(size // BLOCKS_PER_AXIS for size in sizes)
        tokens = tokens_btc.shape[1]
        for extra in range(MOST_EXTRA_TOKENS + 1):
            for edge in range(1, min(sizes) + 1):
                grid = [size // edge for size in sizes]
                if math.prod(grid) == tokens - extra:
                    volumes = tokens_btc[:, extra:].movedim(-1, 1).unflatten(2, grid)  # (B, C, z, y, x)
                    return _joined(volumes) if self._is_cut_into_blocks else volumes[-1]
        return None


def _joined(blocks: torch.Tensor) -> torch.Tensor:
    """Blocks of an image, (64, C, z, y, x), side by side: (C, Z, Y, X)."""
    n = BLOCKS_PER_AXIS
    _, channels, *edges = blocks.shape
    places = blocks[-(n**3) :].reshape(n, n, n, channels, *edges).permute(3, 0, 4, 1, 5, 2, 6)
    return places.reshape(channels, *(n * edge for edge in edges))


def _nearest(name: str, known: Sequence[str]) -> str:
    """The nearest name; of the hundreds of a network not all."""
    near = nearest_names(name, known)
    if "did you mean" in near:
        return near
    return f"; its last is {known[-1]!r}" if known else ", for it has none"
