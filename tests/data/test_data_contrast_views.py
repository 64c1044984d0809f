"""Views for contrast, each change against what the paper's code does."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.augmentations.contrast import (
    RandCropResized,
    RandCutout,
    RandIsotropicBlur,
    RandNoiseOfSomeSize,
    dufumier,
)

SIZE = (22, 21, 20)
IMAGE = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0)) + 1


def test_a_cutout_is_one_box_of_a_quarter_of_each_axis_rounded_up() -> None:
    places = set()
    for seed in range(20):
        changed = RandCutout(prob=1.0).set_random_state(seed)(IMAGE)
        gone = torch.nonzero(changed[0] == 0)
        assert (gone.amax(0) - gone.amin(0) + 1).tolist() == [6, 6, 5] and len(gone) == 6 * 6 * 5
        kept = changed != 0
        assert torch.equal(changed[kept], IMAGE[kept])
        places.add(tuple(gone.amin(0).tolist()))
    assert len(places) > 15


def test_a_crop_is_three_quarters_of_each_axis_rounded_up_and_fills_the_scan_again() -> None:
    ramp = torch.linspace(0, 1, SIZE[0])[None, :, None, None].expand(1, *SIZE)
    for seed in range(5):
        changed = RandCropResized(prob=1.0).set_random_state(seed)(ramp)
        assert changed.shape == ramp.shape
        # 17 of 22 planes
        assert float(changed.max() - changed.min()) == pytest.approx(16 / 21, abs=1e-6)


def test_blur_is_a_gaussian_of_one_width_for_all_axes() -> None:
    point = torch.zeros(1, 21, 21, 21)
    point[0, 10, 10, 10] = 1
    for seed in range(5):
        blur = RandIsotropicBlur((0.1, 1.0), prob=1.0).set_random_state(seed)
        changed = blur(point)[0].numpy()
        state = np.random.RandomState(seed)
        state.rand()  # whether to change at all
        expected = gaussian_filter(point[0].numpy(), state.uniform(0.1, 1.0))
        # MONAI integrates the Gaussian over voxels
        assert np.abs(changed - expected).max() < 0.2 and np.allclose(changed, changed.transpose(2, 0, 1))
        assert changed.sum() == pytest.approx(1, abs=1e-3)


def test_noise_has_a_deviation_from_a_tenth_to_one() -> None:
    found = [
        float((RandNoiseOfSomeSize((0.1, 1.0), prob=1.0).set_random_state(seed)(IMAGE) - IMAGE).std())
        for seed in range(40)
    ]
    assert 0.09 < min(found) < 0.3 and 0.8 < max(found) < 1.03


def test_each_change_is_made_half_of_the_time_and_leaves_its_input_alone() -> None:
    before = IMAGE.clone()
    for place, change in enumerate(dufumier()):
        made = sum(not torch.equal(change.set_random_state(seed)(IMAGE).float(), IMAGE) for seed in range(200))
        assert 75 < made < 125, place
    assert torch.equal(IMAGE, before)


@pytest.mark.parametrize("name", ["cutout", "dufumier"])
def test_a_seed_makes_one_view(name: str) -> None:
    views = Augmentation(name, SIZE)
    made = [views(IMAGE, seed) for seed in (1, 2, 3, 1)]
    assert torch.equal(made[0], made[3]) and all(view.shape == IMAGE.shape for view in made)
    assert all(view.dtype == torch.float32 and type(view) is torch.Tensor for view in made)
