"""3D ResNets: MONAI's with its default arguments, the encoder set apart.

Source: He et al. 2016 and Hara et al. 2018; AD-NeXt is compared with them (Table 4). The first convolution has stride
1, which is why they are so costly.
"""

from collections.abc import Callable, Sequence
from functools import partial

from monai.networks import nets
from torch import nn

from adnext_plugin.networks.classifier import Classifier, require_input_size


def build(
    monai_builder: Callable[..., nets.ResNet],
    features: int,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
) -> Classifier:
    """Build a ResNet with fresh weights.

    Args:
        monai_builder: MONAI's function of the wanted depth.
        features: that it ends with.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; four times halved, rounding up.

    Raises:
        SettingsError: the input is too small.
    """
    require_input_size(monai_builder.__name__, input_size_voxels, smallest=16)
    encoder = monai_builder(spatial_dims=3, n_input_channels=in_channels, feed_forward=False)
    head = nn.Linear(features, num_outputs)
    nn.init.zeros_(head.bias)
    return Classifier(encoder, head)


# Parameters are for one channel and two outputs
resnet10 = partial(build, nets.resnet10, 512)  # 14,357,442
resnet18 = partial(build, nets.resnet18, 512)  # 33,161,922
resnet34 = partial(build, nets.resnet34, 512)  # 63,471,554
resnet50 = partial(build, nets.resnet50, 2048)  # 46,163,010
resnet101 = partial(build, nets.resnet101, 2048)  # 85,209,154
