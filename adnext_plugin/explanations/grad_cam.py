"""Grad-CAM and Grad-CAM++: where the features lie that the score hangs on."""

from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.explanations.layers import Layers
from adnext_plugin.explanations.method import ExplainedNetwork, Explanation, Progress
from adnext_plugin.records import record


@record
class GradCAMSettings:
    """What to look at, and what to show."""

    layer: str | None = None  # dotted name in the network; None: the last that tells places apart
    # show what speaks for the target alone, as published; False shows what speaks against it too, below 0, which is
    # half of the matter where the target is a quantity
    positive_only: bool = True


class GradCAM(Explanation):
    """Adds up the features of a layer, each weighed by the mean over space of the score's gradient.

    The map has the layer's resolution and is interpolated linearly to the image's.

    Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2.
    """

    name: ClassVar[str] = "grad_cam"
    settings_type: ClassVar[type] = GradCAMSettings

    def __init__(self, settings: GradCAMSettings | None = None) -> None:
        super().__init__(settings)
        self._last_layers: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()

    def layer(self, network: ExplainedNetwork) -> str:
        """The layer that is looked at.

        Raises:
            SettingsError: none is asked for, and no layer of the network tells places apart.
        """
        if self.settings.layer is not None:
            return self.settings.layer
        if network.network not in self._last_layers:
            self._last_layers[network.network] = Layers(network).last_spatial()
        return self._last_layers[network.network]

    def compute(self, network: ExplainedNetwork, image_czyx: np.ndarray, target: int, progress: Progress) -> np.ndarray:
        """The map, (Z, Y, X).

        Raises:
            UnknownNameError: the network has no such layer.
            SettingsError: the layer does not tell places apart.
        """
        image = network.tensor(image_czyx)
        features, gradient = Layers(network).features_and_gradient(image, target, self.layer(network))
        features, gradient = features.float(), gradient.float()
        map_zyx = (self.weights(features, gradient)[:, None, None, None] * features).sum(dim=0)
        if self.settings.positive_only:
            map_zyx = map_zyx.relu()
        progress(1, 1)
        size = image_czyx.shape[1:]
        return F.interpolate(map_zyx[None, None], size, mode="trilinear", align_corners=False)[0, 0].cpu().numpy()

    def weights(self, features_czyx: torch.Tensor, gradient_czyx: torch.Tensor) -> torch.Tensor:
        """Of each channel, (C,)."""
        return gradient_czyx.mean(dim=(1, 2, 3))


class GradCAMPlusPlus(GradCAM):
    """Grad-CAM that weighs positive gradients alone, so that every place where a feature stands counts alike.

    Source: Chattopadhay et al. 2018, Grad-CAM++, equations 5 and 19, with the exponential of the score as what is
    differentiated; its factor, the same in all channels, is left out. The features that they add up are those behind a
    ReLU. Of networks whose features can be negative, AD-NeXt among them, the positive ones alone are added up, for the
    weights would else have poles.
    """

    name: ClassVar[str] = "grad_cam_pp"

    def weights(self, features_czyx: torch.Tensor, gradient_czyx: torch.Tensor) -> torch.Tensor:
        """Of each channel, (C,)."""
        total = features_czyx.relu().sum(dim=(1, 2, 3), keepdim=True)
        positive = gradient_czyx.relu()
        return (positive / (2 + total * positive)).sum(dim=(1, 2, 3))
