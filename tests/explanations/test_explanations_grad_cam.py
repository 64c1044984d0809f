"""Grad-CAM on networks whose answer is known, at layers of every family of networks."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.visualize import GradCAM as MonaiGradCAM
from monai.visualize import GradCAMpp as MonaiGradCAMpp
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.explanations.grad_cam import GradCAM, GradCAMPlusPlus, GradCAMSettings
from adnext_plugin.explanations.layers import Layers
from adnext_plugin.explanations.method import ExplainedNetwork, load_explanation
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.task import Task

AGE = Task(name="Age", kind="regression", target="age")
AD = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
THREE = Task(name="Three", target="group", classes=("young", "old", "AD"))
SIZE = 16


class OneChannel(nn.Module):
    """Three channels by a convolution, and outputs that are weights times the mean of one of them."""

    def __init__(self, channel: int, *weights: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv3d(1, 3, kernel_size=4, stride=4)
        self.after = nn.ReLU(inplace=True)
        self.channel = channel
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        mean_b = self.after(self.features(x_bczyx))[:, self.channel].mean(dim=(1, 2, 3))
        return mean_b[:, None] * self.weights


def _image(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, size, size, size)).astype(np.float32)


def _explained(network: nn.Module, task: Task, size: int = SIZE) -> ExplainedNetwork:
    return ExplainedNetwork(network=network, task=task, image_shape=(1, size, size, size))


def _alike(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("method", [GradCAM, GradCAMPlusPlus])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_score_that_is_the_mean_of_one_channel_gives_that_channel(method, channel: int) -> None:
    network = OneChannel(channel, 2.0)
    found = method(GradCAMSettings(layer="after"))(_explained(network, AGE), _image())
    with torch.no_grad():
        expected = network.after(network.features(torch.from_numpy(_image())[None]))[:, channel : channel + 1]
        expected = F.interpolate(expected, (SIZE,) * 3, mode="trilinear", align_corners=False)[0, 0].numpy()
    assert _alike(found, expected) == pytest.approx(1, abs=1e-6) and np.ptp(expected) > 0


def test_the_output_of_a_layer_is_taken_before_what_follows_changes_it_in_place() -> None:
    network = OneChannel(1, 1.0)
    found = GradCAM(GradCAMSettings(layer="features", positive_only=False))(_explained(network, AGE), _image())
    with torch.no_grad():
        expected = network.features(torch.from_numpy(_image())[None])[:, 1:2]
        expected = F.interpolate(expected, (SIZE,) * 3, mode="trilinear", align_corners=False)[0, 0].numpy()
    assert found.min() < 0 and _alike(found, expected) == pytest.approx(1, abs=1e-6)


def test_what_speaks_for_a_class_is_not_shown_for_the_other() -> None:
    network = _explained(OneChannel(0, -1.0, 1.0), AD)
    assert GradCAM()(network, _image(), "AD").max() > 0
    np.testing.assert_array_equal(GradCAM()(network, _image(), "CN"), 0)
    signed = GradCAM(GradCAMSettings(positive_only=False))
    np.testing.assert_allclose(signed(network, _image(), "CN"), -signed(network, _image(), "AD"), atol=1e-7)


def test_classes_of_three_have_maps_of_their_own() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.features = nn.Sequential(nn.Conv3d(1, 3, 4, 4), nn.ReLU())

        def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
            return self.features(x_bczyx).mean(dim=(2, 3, 4))

    network = _explained(Three(), THREE)
    maps = [GradCAM()(network, _image(), name) for name in THREE.classes]
    assert all(_alike(first, second) < 0.99 for first, second in ((maps[0], maps[1]), (maps[1], maps[2])))


def _small(after: Callable[[], Iterable[nn.Module]]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 6, 4, 4), nn.ReLU(), nn.Conv3d(6, 4, 1), *after())


@pytest.mark.parametrize(
    ("ours", "monais", "end"),
    [
        (GradCAM, MonaiGradCAM, lambda: (nn.Flatten(), nn.Linear(256, 1))),
        # MONAI multiplies each place's feature by that place's own gradient where the paper sums up features alone
        # (equation 19), so that both are the same only where the gradient of a channel is the same everywhere
        (GradCAMPlusPlus, MonaiGradCAMpp, lambda: (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 1))),
    ],
)
def test_maps_are_those_of_monai(ours, monais, end) -> None:
    network = _small(end)
    with torch.no_grad():  # MONAI adds 1e-7 to denominators, which small gradients would notice
        network[-1].weight.mul_(100)
    found = ours(GradCAMSettings(layer="1"))(_explained(network, AGE), _image())
    # MONAI's own post-processing would turn the map upside down
    theirs = monais(network, "1", postprocessing=lambda x: x)(torch.from_numpy(_image())[None], class_idx=0).detach()
    assert found.max() > 0
    # relative to their largest: means and sums over space differ by a factor
    np.testing.assert_allclose(found / found.max(), theirs[0, 0] / theirs.max(), atol=1e-3)


def test_grad_cam_pp_is_the_papers_equation_place_by_place() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(3, 2, 2, 3, generator=generator)
    gradient = torch.randn(3, 2, 2, 3, generator=generator)
    expected = []
    for a_zyx, g_zyx in zip(features.double(), gradient.double(), strict=True):
        weight = 0.0
        for g in g_zyx.flatten().tolist():
            share = g**2 / (2 * g**2 + float(a_zyx.sum()) * g**3)
            weight += share * max(g, 0)
        expected.append(weight)
    np.testing.assert_allclose(GradCAMPlusPlus().weights(features, gradient), expected, rtol=1e-5)


# name, edge of the input, layer that is found
FAMILIES = {
    "adnext_t": (64, "encoder"),
    "tiny_densenet": (32, "encoder.relu"),
    "liu_cnn": (72, "encoder.14"),
    "mednext_b_k3": (48, None),
    "minit": (32, "encoder.transformer.blocks.5.norm1"),
    "nit": (32, "encoder.blocks.3.norm1"),
    "polimi_cnn": (88, "encoder.14"),
    "resnet10": (32, "encoder.layer4"),
    "swin3d_t": (64, "encoder.network.norm"),
    "vit_small_mim": (48, "encoder.blocks.5.norm1"),
}


@pytest.mark.parametrize(("name", "size", "layer"), [(name, *rest) for name, rest in FAMILIES.items()])
def test_features_of_every_family_lie_where_the_image_has_them(name: str, size: int, layer: str | None) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkSettings(name=name), 1, 2, (size,) * 3)
    explained = _explained(network, AD, size)
    layers = Layers(explained)
    found = layers.last_spatial()
    assert layer is None or found == layer
    # the last convolution of Liu's network reaches over all of so small an input, every other voxel of it
    seen = "encoder.6" if name in ("liu_cnn", "polimi_cnn") else found
    # a bright corner: z at the start, y at the start, x at the end; then z at the end
    quarter = size // 4
    plain = torch.from_numpy(_image(size=size))[None]
    for box in ((slice(0, quarter), slice(0, quarter), slice(-quarter, None)), (slice(-quarter, None),) * 3):
        changed = plain.clone()
        changed[(0, 0, *box)] += 5
        before, after = (layers.features(image, [seen])[seen] for image in (plain, changed))
        difference = (after - before).norm(dim=0)
        place = np.unravel_index(int(difference.argmax()), difference.shape)
        for at, length, part in zip(place, difference.shape, box, strict=True):
            is_at_start = part.start == 0
            assert (at < length / 2) == is_at_start or length == 1


def test_covariates_are_no_part_of_the_layers_names() -> None:
    network = WithCovariates(OneChannel(0, -1.0, 1.0), 2, 2)
    explained = ExplainedNetwork(
        network=network, task=AD, image_shape=(1, SIZE, SIZE, SIZE), covariates_1n=torch.zeros(1, 2)
    )
    assert Layers(explained).names == ("features", "after") and GradCAM()(explained, _image()).max() > 0


def test_a_mirrored_network_is_explained_by_its_features_of_the_scan_itself() -> None:
    torch.manual_seed(0)
    options = {"init": "fan_in", "mirror": True}
    network = build_network(NetworkSettings(name="adnext_t", options=options), 1, 2, (64,) * 3)
    explained = _explained(network, AD, 64)
    mirrored = GradCAM(GradCAMSettings(positive_only=False))(explained, _image(size=64))
    assert mirrored.shape == (64, 64, 64) and np.ptp(mirrored) > 0


def test_impossible_layers_are_one_line() -> None:
    network = nn.Sequential(nn.Conv3d(1, 3, 4, 4), nn.Flatten(), nn.Linear(192, 2))
    explained = _explained(network, AD)
    for layer, message in (
        ("3", "the network has no layer '3'; its last is '2'"),
        ("1", "layer '1' does not tell places apart (its output is (1, 192)); choose an earlier one, such as '0'"),
    ):
        with pytest.raises((UnknownNameError, SettingsError)) as caught:
            GradCAM(GradCAMSettings(layer=layer))(explained, _image())
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean 'features'"):
        load_explanation("grad_cam", {"layer": "feature"})(_explained(OneChannel(0, 1.0), AGE), _image())
    with pytest.raises(SettingsError, match="no layer of the network tells places apart"):
        GradCAM()(_explained(nn.Sequential(nn.Flatten(), nn.Linear(SIZE**3, 2)), AD), _image())
