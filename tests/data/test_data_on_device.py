"""Augmentation on the images' device: the CPU's change under the same seed, without a value read on the way."""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.sharpen import SharpeningTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from conftest import CountedOperations, OneDevice
from monai.transforms import Compose, RandAffine, RandFlip, RandGaussianSharpen, RandScaleIntensity

from adnext_plugin.batch import runs_on_device
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.augmentations.nnunet import FromBatchgenerators
from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.named_transforms import named_transforms
from adnext_plugin.on_device import change as on_device_change
from adnext_plugin.on_device.change import SeededChange
from adnext_plugin.on_device.fields import FieldsOfDevice
from adnext_plugin.on_device.forms import done, has_form
from adnext_plugin.on_device.linear import along
from adnext_plugin.pretraining.amaes.views import RestorationViews, UnchangedViews
from adnext_plugin.pretraining.contrast.objective import TwoViews
from adnext_plugin.pretraining.hybrid.objective import StackedViews
from adnext_plugin.registry import AUGMENTATIONS, registered_names

SIZE = (12, 16, 16)
CPU = torch.device("cpu")
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "lift_fresh", "lift_fresh_copy"}


class _FieldsOfState:
    """Fields as the CPU draws them, from the transform's own state."""

    def normal(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        if state is None:
            return torch.empty(tuple(shape)).normal_()
        return torch.from_numpy(state.normal(size=tuple(shape)).astype(np.float32))

    def uniform(self, shape: Sequence[int], state: np.random.RandomState) -> torch.Tensor:
        return torch.from_numpy(state.uniform(-1, 1, size=tuple(shape)).astype(np.float32))


def _image(channels: int = 1) -> torch.Tensor:
    image = torch.randn(channels, *SIZE, generator=torch.Generator().manual_seed(1))
    image[:, :3] = 0
    image[:, :, 13:] = 0
    return image


def _on_device(change: SeededChange, image: torch.Tensor, seed: int, fields=None) -> torch.Tensor:
    change._chain.set_random_state(seed=seed)
    return done(change._chain.transforms, image, fields or FieldsOfDevice(CPU, seed))


def _change(name: str) -> SeededChange:
    return SeededChange(named_transforms(name, SIZE))


def test_every_augmentation_of_ours_has_a_form() -> None:
    assert all(_change(name).runs_on_device for name in registered_names(AUGMENTATIONS))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_a_form_makes_the_change_that_the_cpu_makes(name: str, channels: int) -> None:
    change, image = _change(name), _image(channels)
    before, changed = image.clone(), 0
    for seed in range(30):
        expected = change(image, seed)
        found = _on_device(change, image, seed, _FieldsOfState())
        # AMAES looks voxels up in float64 on the CPU: at the edge of a brain a few fall on the other side
        is_other = (found - expected).abs() > 1e-4
        assert found.dtype == torch.float32 and float(is_other.float().mean()) <= ("amaes" in name) * 1e-3, seed
        changed += not torch.equal(expected, image)
    assert torch.equal(image, before) and (changed > 3 or name == "none")


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_a_form_reads_no_value_and_depends_on_its_seed_alone(name: str) -> None:
    change, image = _change(name), _image()
    found = [_on_device(change, image, seed) for seed in range(12)]  # also fills what is kept for a length
    with CountedOperations() as reads:
        again = [_on_device(change, image, seed) for seed in range(12)]
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    if name not in ("affine", "nnunet"):  # whose numbers are tensors of the CPU first
        assert not WAITS & set(reads.counts)


class _FieldsOfMeta:
    """Fields without values, of which no generator is needed."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self._device = device

    def normal(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        return torch.empty(tuple(shape), device=self._device)

    uniform = normal


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_an_augmentation_of_an_image_on_a_device_takes_place_there(name: str, monkeypatch) -> None:
    monkeypatch.setattr(on_device_change, "FieldsOfDevice", _FieldsOfMeta)
    for crop, channels in itertools.product((None, (10, 12, 12)), (1, 2)):
        change = Augmentation(name, crop or SIZE, crop)
        for seed in range(20):
            with OneDevice():
                found = change(torch.empty(channels, *SIZE, device="meta"), seed)
            assert found.device.type == "meta" and found.shape == (channels, *(crop or SIZE))


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_seeds_are_those_that_monai_gives(name: str) -> None:
    image, change, theirs = _image(), _change(name), Compose(named_transforms(name, SIZE))
    for seed in (3, 2**32 - 1, 3, 0):
        theirs.set_random_state(seed=seed)
        assert torch.equal(change(image, seed), torch.as_tensor(theirs(image)))


def test_noise_that_a_device_draws_has_the_deviation_that_the_cpu_draws() -> None:
    for name, largest in (("anatomical", 0.1), ("dufumier", 1.0)):
        noise = next(one for one in named_transforms(name, SIZE) if "Noise" in type(one).__name__)
        change, image = SeededChange([noise]), torch.zeros(1, 32, 32, 32)
        deviations = [
            (float(change(image, seed).std()), float(_on_device(change, image, seed).std())) for seed in range(60)
        ]
        noisy = [pair for pair in deviations if pair[0] > 0]
        assert 5 < len(noisy) < 45 and all(0 < one <= largest * 1.05 for one, _ in noisy)
        assert all(abs(one / other - 1) < 0.03 for one, other in noisy)
        assert all(other == 0 for one, other in deviations if one == 0)


def test_what_is_not_known_stays_on_the_cpu() -> None:
    class OtherFlip(RandFlip):
        """Who knows what it does."""

    assert has_form(RandFlip(spatial_axis=0)) and not has_form(OtherFlip(spatial_axis=0))
    assert not has_form(RandGaussianSharpen()) and not has_form(RandScaleIntensity(0.1, channel_wise=True))
    assert not has_form(RandAffine(padding_mode="reflection")) and has_form(RandAffine(padding_mode="zeros"))
    assert not SeededChange([RandFlip(spatial_axis=0), RandGaussianSharpen()]).runs_on_device
    for unknown in (SharpeningTransform((0.1, 1)), GaussianNoiseTransform(p_per_channel=0.5)):
        assert not has_form(FromBatchgenerators(lambda channels, size, one=unknown: [RandomTransform(one)]))


def test_views_run_where_what_they_are_made_of_runs() -> None:
    ours, theirs = Augmentation("inside", SIZE), SeededChange([RandGaussianSharpen()])
    assert runs_on_device(None) and runs_on_device(ours) and not runs_on_device(theirs)
    assert not runs_on_device(lambda image, seed: image)  # as of an objective of another package
    assert runs_on_device(CentreCrop((4, 4, 4))) and runs_on_device(UnchangedViews(None))
    for one, is_ours in ((ours, True), (theirs, False)):
        views = (TwoViews(one), StackedViews(None, TwoViews(one)), RestorationViews(one, "amaes_intensity", None))
        assert all(runs_on_device(view) is is_ours for view in views)
    assert Augmentation("none", SIZE, crop_voxels=(8, 8, 8)).runs_on_device


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"allow_tf32": True}, [("allow_tf32", False), ("allow_tf32", True)]),  # until PyTorch 2.8
        ({"fp32_precision": "tf32"}, [("fp32_precision", "ieee"), ("fp32_precision", "tf32")]),
    ],
)
def test_products_are_exact_whatever_the_version_of_pytorch_calls_it(monkeypatch, flags: dict, expected: list) -> None:
    told = []

    class Products(SimpleNamespace):
        def __setattr__(self, name: str, value: object) -> None:
            told.append((name, value))

    monkeypatch.setattr(torch.backends.cuda, "matmul", Products(**flags))
    image = _image()
    assert torch.equal(along(image, torch.eye(SIZE[0]), 0), image) and told == expected
