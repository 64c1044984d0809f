"""3D DenseNets: MONAI's, with the encoder set apart.

Source: Huang et al. 2017; the 121-layer one is compared with in AD-NeXt (Table 4) and in Dhinagar et al. 2023, the tiny
one of the latter, in the configuration its originators call exp9 (Dufumier et al. 2021). The 1.8 M parameters quoted
for the tiny one include a head of 1000 classes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from monai.networks.nets import DenseNet
from torch import nn

from adnext_plugin.networks.classifier import Classifier, require_input_size, require_rate


def build(
    name: str,
    growth_rate: int,
    layers_per_block: Sequence[int],
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
    *,
    dropout_rate: float = 0.0,
) -> Classifier:
    """Build a DenseNet with fresh weights.

    Args:
        name: what errors call it.
        growth_rate: channels that each layer adds.
        layers_per_block: of each dense block; all but the last are followed by a halving.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed.
        dropout_rate: chance to drop a value after each dense layer.

    Raises:
        SettingsError: the input is too small, or the rate out of range.
    """
    # the stem quarters each axis, rounding up; a halving that meets a single voxel would leave nothing
    require_input_size(name, input_size_voxels, smallest=4 * 2 ** (len(layers_per_block) - 1))
    require_rate("dropout_rate", dropout_rate)
    network = DenseNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=num_outputs,
        growth_rate=growth_rate,
        block_config=layers_per_block,
        dropout_prob=dropout_rate,
    )
    head = network.class_layers
    parts = ("relu", "pool", "flatten")
    encoder = OrderedDict(features=network.features, **{name: head.get_submodule(name) for name in parts})
    return Classifier(nn.Sequential(encoder), head.get_submodule("out"))


densenet121 = partial(build, "densenet121", 32, (6, 12, 24, 16))  # 11,244,674 with two outputs
tiny_densenet = partial(build, "tiny_densenet", 16, (6, 12, 16))  # 1,462,873 with one output
