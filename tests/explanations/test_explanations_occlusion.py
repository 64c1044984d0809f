"""Occlusion finds what a network looks at, which here is known; and methods by name."""

import numpy as np
import pytest
import torch
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.explanations.method import ExplainedNetwork, explanation_names, load_explanation
from adnext_plugin.explanations.occlusion import Occlusion, OcclusionSettings
from adnext_plugin.registry import EXPLANATIONS
from adnext_plugin.task import Task

AGE = Task(name="Age", kind="regression", target="age")
AD = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
THREE = Task(name="Three", target="group", classes=("young", "old", "AD"))
SHAPE = (1, 24, 28, 20)
KNOWN = (slice(8, 12), slice(12, 16), slice(4, 8))


class Looks(nn.Module):
    """Outputs are weights times the mean over a known box of the first channel; counts what it is asked."""

    def __init__(self, *weights: float, box: tuple[slice, ...] = KNOWN) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))
        self.box = box
        self.asked: list[int] = []

    def forward(self, x_bczyx: torch.Tensor, covariates_bn: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(len(x_bczyx))
        mean_b = x_bczyx[(slice(None), 0, *self.box)].mean(dim=(1, 2, 3))
        shift_b = 0 if covariates_bn is None else covariates_bn.sum(dim=1)
        return (mean_b + shift_b)[:, None] * self.weights


def _image(value: float = 1.0) -> np.ndarray:
    """A brain of one value, with air of two voxels around it."""
    image = np.zeros(SHAPE, dtype=np.float32)
    image[:, 2:-2, 2:-2, 2:-2] = value
    return image


def _explain(network: nn.Module, task: Task, image: np.ndarray, target=None, **settings) -> np.ndarray:
    explained = ExplainedNetwork(network=network, task=task, image_shape=SHAPE)
    return Occlusion(OcclusionSettings(**settings))(explained, image, target)


def test_a_box_that_is_all_that_counts_is_found_exactly() -> None:
    tiles = {"box_voxels": (4, 4, 4), "stride_voxels": (4, 4, 4)}
    found = _explain(Looks(3.0), AGE, _image(), **tiles)
    expected = np.zeros(SHAPE[1:])
    expected[KNOWN] = 3.0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_map_peaks_in_the_known_box_whatever_the_grid_of_boxes() -> None:
    found = _explain(Looks(1.0), AGE, _image(2.0), box_voxels=(6, 5, 7), stride_voxels=(2, 3, 2))
    peak = np.unravel_index(found.argmax(), found.shape)
    assert all(part.start <= place < part.stop for part, place in zip(KNOWN, peak, strict=True))
    inside = np.zeros(found.shape, dtype=bool)
    inside[KNOWN] = True
    assert found[inside].min() > found[~inside].mean() and found.min() == 0


def test_a_network_that_ignores_the_image_gives_a_zero_map() -> None:
    for task, weights in ((AGE, [0.0]), (AD, [0.0, 0.0]), (THREE, [0.0] * 3)):
        np.testing.assert_array_equal(_explain(Looks(*weights), task, _image()), 0)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other() -> None:
    settings = {"box_voxels": (4, 4, 4), "stride_voxels": (4, 4, 4)}
    for_ad = _explain(Looks(-1.0, 2.0), AD, _image(), "AD", **settings)
    np.testing.assert_allclose(for_ad[KNOWN], 3.0, atol=1e-6)  # the difference of the logits
    np.testing.assert_array_equal(for_ad, _explain(Looks(-1.0, 2.0), AD, _image(), **settings))
    np.testing.assert_array_equal(for_ad, _explain(Looks(-1.0, 2.0), AD, _image(), 1, **settings))
    np.testing.assert_allclose(_explain(Looks(-1.0, 2.0), AD, _image(), "CN", **settings), -for_ad, atol=1e-6)
    # the same amount added to all logits is no news
    np.testing.assert_allclose(_explain(Looks(9.0, 12.0), AD, _image(), "AD", **settings), for_ad, atol=1e-5)


def test_of_three_classes_the_log_odds_of_the_one_asked_for_fall() -> None:
    found = _explain(Looks(0.5, 2.0, -1.0), THREE, _image(), "old", box_voxels=(4, 4, 4), stride_voxels=(4, 4, 4))
    share = np.exp(2.0) / np.exp([0.5, 2.0, -1.0]).sum()
    expected = np.log(share / (1 - share)) - np.log(1 / 2)  # all logits are 0 when the box is covered with 0
    np.testing.assert_allclose(found[KNOWN], expected, rtol=1e-5)


@pytest.mark.parametrize(("fill", "fall"), [("zero", 5.0), ("background", 5.0 - 2.0), ("mean", 0.0), (7.0, -2.0)])
def test_boxes_are_filled_as_asked(fill, fall: float) -> None:
    image = _image(5.0)
    image[image == 0] = 2.0  # a background that is not 0
    found = _explain(Looks(1.0), AGE, image, box_voxels=(4, 4, 4), stride_voxels=(4, 4, 4), fill=fill)
    np.testing.assert_allclose(found[KNOWN], fall, atol=1e-6)


def test_the_mean_is_that_of_the_brain_and_each_channels_own() -> None:
    image = np.zeros((2, 8, 8, 8), dtype=np.float32)
    image[0, 2:6, 2:6, 2:6], image[1, 2:6, 2:6, 2:6] = 4.0, 10.0
    image[0, 2:4, 2:6, 2:6] = 8.0

    class SecondAlso(nn.Module):
        def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
            return (x_bczyx[:, 0, 2, 2, 2] + 100 * x_bczyx[:, 1, 2, 2, 2])[:, None]

    explained = ExplainedNetwork(network=SecondAlso(), task=AGE, image_shape=(2, 8, 8, 8))
    settings = OcclusionSettings(box_voxels=(2, 2, 2), stride_voxels=(2, 2, 2), fill="mean")
    found = Occlusion(settings)(explained, image)
    assert found[2, 2, 2] == pytest.approx(8 - 6)  # the mean of the second channel changes nothing


def test_only_boxes_that_touch_the_brain_are_asked_and_batches_change_nothing() -> None:
    image = np.zeros(SHAPE, dtype=np.float32)
    image[:, 8:16, 8:16, 4:12] = np.random.default_rng(0).random((8, 8, 8))
    settings = {"box_voxels": (4, 4, 4), "stride_voxels": (4, 4, 4)}
    one_by_one, together = Looks(1.0), Looks(1.0)
    first = _explain(one_by_one, AGE, image, **settings, batch_size=1)
    second = _explain(together, AGE, image, **settings, batch_size=5)
    np.testing.assert_array_equal(first, second)
    assert one_by_one.asked == [1, *[1] * 8] and together.asked == [1, 5, 3]
    assert not first[image[0] == 0].any()


def test_an_axis_that_boxes_do_not_divide_is_covered_to_its_end() -> None:
    last = (slice(20, 24), slice(24, 28), slice(16, 20))
    image = np.ones(SHAPE, dtype=np.float32)
    image[:, :2] = 0  # some air
    image[:, :, :, :8] = 0
    found = _explain(Looks(1.0, box=last), AGE, image, box_voxels=(7, 9, 11), stride_voxels=(7, 9, 11), fill="zero")
    assert found[last].min() > 0


def test_progress_is_told_up_to_the_end_and_the_image_stays_as_it_was() -> None:
    told: list[tuple[int, int]] = []
    image = _image()
    method = Occlusion(OcclusionSettings(box_voxels=(12, 14, 10), stride_voxels=(12, 14, 10), batch_size=3))
    network = ExplainedNetwork(network=Looks(1.0), task=AGE, image_shape=SHAPE)
    method(network, image, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 8), (6, 8), (8, 8)]
    np.testing.assert_array_equal(image, _image())


def test_one_channel_may_be_given_without_its_axis_and_in_half_precision() -> None:
    whole = _explain(Looks(1.0), AGE, _image())
    np.testing.assert_array_equal(_explain(Looks(1.0), AGE, _image()[0].astype(np.float16)), whole)


def test_covariates_go_into_the_network_unchanged() -> None:
    explained = ExplainedNetwork(
        network=Looks(2.0), task=AGE, image_shape=SHAPE, covariates_1n=torch.tensor([[70.0, 1.0]])
    )
    settings = OcclusionSettings(box_voxels=(4, 4, 4), stride_voxels=(4, 4, 4))
    found = Occlusion(settings)(explained, _image())
    np.testing.assert_allclose(found[KNOWN], 2.0, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "image", "target", "settings", "message"),
    [
        (AD, _image(), "A", {}, "knows no target 'A'; did you mean 'AD'"),
        (AD, _image(), 2, {}, "has no output 2; it has those of CN, AD, from 0 on"),
        (AGE, _image(), "sex", {}, "knows no target 'sex'; known: age"),
        (AD, _image()[:, :-1], None, {}, "shape (1, 23, 28, 20), but the network takes (1, 24, 28, 20)"),
        (AD, np.zeros((3, 24, 28, 20)), None, {}, "shape (3, 24, 28, 20)"),
        (AD, _image(np.nan), None, {}, "not finite"),
        (AD, _image(), None, {"box_voxels": (16, 16, 32)}, "box_voxels [16, 16, 32] is larger than the image"),
        (AD, _image(), None, {"box_voxels": (0, 4, 4)}, "box_voxels must be at least 1, got [0, 4, 4]"),
        (AD, _image(), None, {"stride_voxels": (8, 8, 17)}, "would never be covered"),
        (AD, _image(), None, {"batch_size": 0}, "batch_size must be at least 1"),
        (AD, _image(), None, {"fill": float("inf")}, "fill must be finite"),
    ],
)
def test_impossible_requests_are_one_line(task, image, target, settings: dict, message: str) -> None:
    with pytest.raises((SettingsError, UnknownNameError)) as caught:
        _explain(Looks(1.0, 2.0), task, image, target, **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_encoder_without_a_task_is_not_explained() -> None:
    with pytest.raises(SettingsError, match="nothing to explain"):
        ExplainedNetwork(network=Looks(1.0), task=Task(name="U", kind="unlabelled"), image_shape=SHAPE)


def test_methods_are_listed_and_loaded_by_name_with_settings_checked() -> None:
    assert "occlusion" in explanation_names()
    method = load_explanation("occlusion", {"box_voxels": [4, 5, 6], "stride_voxels": [4, 4, 4], "fill": -1.5})
    assert isinstance(method, Occlusion)
    assert method.settings == OcclusionSettings(box_voxels=(4, 5, 6), stride_voxels=(4, 4, 4), fill=-1.5)
    assert load_explanation("occlusion").settings == OcclusionSettings()
    with pytest.raises(UnknownNameError, match="did you mean 'occlusion'"):
        load_explanation("oclusion")
    with pytest.raises(SettingsError, match="unknown key 'box_voxel'; did you mean 'box_voxels'"):
        load_explanation("occlusion", {"box_voxel": [4, 4, 4]})
    with pytest.raises(SettingsError, match="explanation occlusion, settings: fill"):
        load_explanation("occlusion", {"fill": "black"})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("odd = 1", "must be a class derived from Explanation"),
        ("from adnext_plugin.explanations.method import Explanation as odd", "is not complete"),
    ],
)
def test_what_is_no_method_is_refused(install, code: str, message: str) -> None:
    install("odd_explanation", code, {EXPLANATIONS: {"odd": "odd"}})
    with pytest.raises(SettingsError, match=message):
        load_explanation("odd")


def test_a_method_that_gives_another_shape_is_named(install) -> None:
    code = (
        "from adnext_plugin.explanations.method import Explanation\n"
        "class Flat(Explanation):\n"
        "    name = 'flat'\n"
        "    def compute(self, network, image_czyx, target, progress):\n"
        "        return image_czyx[0, 0]\n"
    )
    install("flat_explanation", code, {EXPLANATIONS: {"flat": "Flat"}})
    network = ExplainedNetwork(network=Looks(1.0), task=AGE, image_shape=SHAPE)
    with pytest.raises(SettingsError, match=r"'flat' gave a map of shape \(28, 20\)"):
        load_explanation("flat")(network, _image())
