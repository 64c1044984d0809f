"""Integrated gradients add up, SmoothGrad sees through noise; on networks whose gradients are known."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from adnext_plugin.errors import AdnextWarning, SettingsError
from adnext_plugin.explanations.gradients import (
    IntegratedGradients,
    IntegratedGradientsSettings,
    SmoothGrad,
    SmoothGradSettings,
)
from adnext_plugin.explanations.method import ExplainedNetwork, explanation_names, load_explanation
from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.task import Task

AGE = Task(name="Age", kind="regression", target="age")
AD = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
SIZE = 32


class Curved(nn.Module):
    """The sum of a power of the voxels of a box."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return (x_bczyx[:, :, 4:8, 4:8, 4:8] ** self.power).sum(dim=(1, 2, 3, 4))[:, None]


class Step(nn.Module):
    """A steep rise between two images, which few steps miss."""

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(300 * (x_bczyx.mean(dim=(1, 2, 3, 4)) - 0.123))[:, None]


def _image(seed: int = 0) -> np.ndarray:
    """A brain of noise with air around it."""
    image = np.zeros((1, SIZE, SIZE, SIZE), dtype=np.float32)
    inside = (slice(None), *[slice(2, -2)] * 3)
    image[inside] = np.random.default_rng(seed).normal(1, 0.3, size=image[inside].shape)
    return image


def _explained(network: nn.Module, task: Task = AGE) -> ExplainedNetwork:
    return ExplainedNetwork(network=network, task=task, image_shape=(1, SIZE, SIZE, SIZE))


class _ToldFlags(torch.autograd.Function):
    """Notes what is set while it runs, forward and back."""

    seen: ClassVar[list[bool]] = []
    is_set = False

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        _ToldFlags.seen.append(_ToldFlags.is_set)
        return x.clone()

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        _ToldFlags.seen.append(_ToldFlags.is_set)
        return grad


class _Told(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 2, kernel_size=4, stride=4)

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return _ToldFlags.apply(self.features(x_bczyx)).mean(dim=(2, 3, 4))[:, :1]


@contextmanager
def _set() -> Iterator[None]:
    before, _ToldFlags.is_set = _ToldFlags.is_set, True
    try:
        yield
    finally:
        _ToldFlags.is_set = before


@pytest.mark.parametrize("name", explanation_names())
def test_every_method_computes_forward_and_back_as_the_network_is_told_to(name: str, monkeypatch) -> None:
    """On a GPU flags of the whole process say whether products are rounded."""
    monkeypatch.setattr(_ToldFlags, "seen", [])
    explained = ExplainedNetwork(network=_Told(), task=AGE, image_shape=(1, SIZE, SIZE, SIZE), arithmetic=_set)
    load_explanation(name)(explained, _image())
    assert _ToldFlags.seen and all(_ToldFlags.seen) and not _ToldFlags.is_set


def test_methods_are_listed() -> None:
    assert set(explanation_names()) >= {"grad_cam", "grad_cam_pp", "integrated_gradients", "occlusion", "smooth_grad"}


def test_integrated_gradients_of_a_power_are_that_power() -> None:
    found = IntegratedGradients()(_explained(Curved(3)), _image())
    expected = np.zeros_like(found)
    box = (slice(4, 8),) * 3
    expected[box] = _image()[0][box] ** 3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["background", "zero", "mean", -0.5])
@pytest.mark.parametrize(("name", "task"), [("adnext_t", AD), ("tiny_densenet", AGE), ("vit_small_mim", AD)])
def test_integrated_gradients_add_up_to_the_difference_of_the_scores(name: str, task: Task, baseline) -> None:
    torch.manual_seed(0)
    options = {"init": "fan_in"} if name == "adnext_t" else {}
    network = build_network(NetworkSettings(name=name, options=options), 1, task.num_outputs, (SIZE,) * 3)
    with torch.no_grad():  # where all biases are 0, norms make every image but the empty one look alike
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    explained = _explained(network, task)
    image = _image()
    start = image[image != 0].mean() if baseline == "mean" else 0.0 if isinstance(baseline, str) else baseline
    with warnings.catch_warnings():
        warnings.simplefilter("error", AdnextWarning)
        found = IntegratedGradients(IntegratedGradientsSettings(baseline=baseline, steps=8))(explained, image)
    with torch.no_grad():
        one, other = (explained.scores(explained.tensor(array), 0) for array in (image, np.full_like(image, start)))
    target = task.num_outputs - 1
    difference = float(one - other) * (1 if target == 0 else -1)
    assert abs(difference) > 1e-3
    assert float(found.sum(dtype=np.float64)) == pytest.approx(difference, rel=0.01)


def test_more_steps_are_taken_until_the_map_adds_up_and_else_a_warning_says_so() -> None:
    image = np.ones((1, SIZE, SIZE, SIZE), dtype=np.float32)
    told: list[tuple[int, int]] = []
    enough = IntegratedGradients(IntegratedGradientsSettings(baseline="zero", steps=4, most_steps=1024))
    found = enough(_explained(Step()), image, progress=lambda done, of: told.append((done, of)))
    assert found.sum() == pytest.approx(1, rel=0.01) and max(of for _, of in told) > 64
    few = IntegratedGradients(IntegratedGradientsSettings(baseline="zero", steps=4, most_steps=8))
    with pytest.warns(AdnextWarning, match="but the scores differ by 1; take more than 8 steps"):
        few(_explained(Step()), image)


def test_smooth_grad_of_a_straight_line_is_its_slope_in_the_brain_whatever_the_noise() -> None:
    for noise_share in (0.0, 0.5):
        found = SmoothGrad(SmoothGradSettings(noise_share=noise_share, samples=3))(_explained(Curved(1)), _image())
        expected = np.zeros_like(found)
        expected[4:8, 4:8, 4:8] = 1
        np.testing.assert_allclose(found, expected)


def test_smooth_grad_averages_gradients_over_noise_of_the_stated_size() -> None:
    image = _image()
    settings = {"samples": 400, "noise_share": 0.2, "batch_size": 100}
    sizes, gradients = (
        SmoothGrad(SmoothGradSettings(mean_of=mean_of, **settings))(_explained(Curved(3)), image)
        for mean_of in ("sizes", "gradients")
    )
    # the mean of 3 (x + noise)² over noise is 3 (x² + variance)
    variance = (0.2 * np.ptp(image)) ** 2
    expected = 3 * (image[0, 4:8, 4:8, 4:8] ** 2 + variance)
    assert np.mean(gradients[4:8, 4:8, 4:8] / expected) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(sizes, gradients, rtol=1e-5)


def test_smooth_grad_is_the_same_again_and_other_with_another_seed() -> None:
    maps = [
        SmoothGrad(SmoothGradSettings(seed=seed, samples=5, batch_size=batch))(_explained(Curved(3)), _image())
        for seed, batch in ((0, 5), (0, 5), (1, 5))
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 0


@pytest.mark.parametrize("method", [IntegratedGradients, SmoothGrad])
def test_a_network_that_ignores_the_image_gives_a_zero_map(method) -> None:
    class Deaf(nn.Module):
        def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x_bczyx), 1)

    np.testing.assert_array_equal(method()(_explained(Deaf()), _image()), 0)


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (IntegratedGradientsSettings, {"steps": 1}, "steps must be from 2 to most_steps, 256, got 1"),
        (IntegratedGradientsSettings, {"tolerance": 0.0}, "tolerance must be in"),
        (IntegratedGradientsSettings, {"batch_size": 0}, "batch_size must be at least 1"),
        (SmoothGradSettings, {"samples": 0}, "samples and batch_size must be at least 1"),
        (SmoothGradSettings, {"noise_share": -1.0}, "noise_share must be 0 or more, got -1"),
    ],
)
def test_impossible_settings_are_one_line(settings, values: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**values)
