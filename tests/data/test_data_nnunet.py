"""nnU-Net's augmentation is nnU-Net's, and draws from nothing but the seed."""

import re

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.augmentations.nnunet import ROTATION, nnunet_transforms
from adnext_plugin.registry import AUGMENTATIONS, registered_names

SIZE = (16, 16, 16)


def _described(transforms) -> list[str]:
    """Each transform with all its numbers; how to blur is no difference."""
    return [re.sub(r"benchmark = (True|False)", "", repr(one)) for one in transforms]


def test_the_recipe_is_that_of_the_installed_nnunet() -> None:
    theirs = nnUNetTrainer.get_training_transforms(
        SIZE,
        rotation_for_DA=(-ROTATION, ROTATION),
        deep_supervision_scales=None,
        mirror_axes=(2,),
        do_dummy_2d_data_aug=False,
        use_mask_for_norm=[True, True],
    ).transforms
    ours = _described(nnunet_transforms(2, SIZE))
    expected = _described(theirs)
    assert ours == expected[: len(ours)]
    # what follows there is for labels and for types
    assert all(one.startswith("RemoveLabel") for one in expected[len(ours) :])


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_an_augmentation_is_a_function_of_the_seed_and_leaves_the_process_as_it_was(name: str) -> None:
    image = torch.zeros(1, *SIZE)
    image[:, 3:13, 3:13, 3:13] = torch.randn(1, 10, 10, 10, generator=torch.Generator().manual_seed(0))
    augment = Augmentation(name, SIZE)
    np.random.seed(1)
    torch.manual_seed(1)
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = [augment(image, seed) for seed in range(12)]
    assert np.array_equal(np.random.get_state()[1], numpy_before) and torch.equal(torch.get_rng_state(), torch_before)
    np.random.seed(2)
    torch.manual_seed(2)
    again = Augmentation(name, SIZE)
    assert all(torch.equal(again(image, seed), first[seed]) for seed in reversed(range(12)))


def test_nnunets_background_stays_0_and_heads_stay_upright() -> None:
    # brighter from one pole to the other, which only flips along z could turn round
    image = torch.zeros(1, 24, 24, 24)
    image[0, 4:20, 4:20, 4:20] = torch.linspace(1, 3, 16)[:, None, None]
    augment = Augmentation("nnunet", (24, 24, 24))
    for seed in range(40):
        changed = augment(image, seed)[0]
        lit = changed.sum((1, 2)) / (changed != 0).sum((1, 2)).clamp(min=1)
        assert lit[12:].sum() > lit[:12].sum()
        assert (changed == 0).sum() > 1000
