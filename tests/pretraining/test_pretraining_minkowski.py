"""MinkowskiEngine's own results, made once by golden/make_minkowski_golden.py, against ours."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import encode_with
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import mask_voxels, split_into_patches
from adnext_plugin.training.released import from_released

sys.path.insert(0, str(Path(__file__).parent / "golden"))
import make_minkowski_golden as golden

BACKENDS = ["masked_dense", "gathered"]


def _to_zyx(array_xyz: np.ndarray, axis: int = 0) -> torch.Tensor:
    """Reverse the three spatial axes that begin at `axis`."""
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(array_xyz, axis, axis + 2)))


@pytest.fixture(scope="module")
def setting() -> tuple:
    """Encoder with the golden weights, scans (2, 1, Z, Y, X), visible patches, factors of the loss, and the results."""
    weights, scans, factors = golden.inputs()
    encoder = ADNeXtEncoder(1, golden.DEPTHS, golden.WIDTHS).double().train()
    converted = from_released({name: torch.from_numpy(value) for name, value in weights.items()})
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in converted.items()})
    visible = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    for sample, patches in enumerate(golden.VISIBLE):
        for x, y, z in patches:
            visible[sample, z, y, x] = True
    return encoder, _to_zyx(scans, 1)[:, None], visible, _to_zyx(factors, 1), np.load(golden.OUTPUT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_features_and_gradients_are_those_of_minkowski_engine(backend: str, setting: tuple) -> None:
    encoder, scans, visible, factors, expected = setting
    encoder.zero_grad()
    patches = VisiblePatches(visible, torch.device("cpu"))
    features = encode_with(backend, ("halo", "scatter", "halo", "scatter"))(encoder, scans, patches)
    for sample in range(2):
        torch.testing.assert_close(features[sample], _to_zyx(expected[f"features.{sample}"]), rtol=1e-10, atol=1e-10)
    (features * factors).sum().backward()
    gradients = {name.removeprefix("gradient."): expected[name] for name in expected if name.startswith("gradient.")}
    gradients = from_released({name: torch.from_numpy(value) for name, value in gradients.items()})
    found = {f"encoder.{name}": parameter.grad for name, parameter in encoder.named_parameters()}
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9 * gradient.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_block_and_a_transition_are_those_of_minkowski_engine(backend: str, setting: tuple) -> None:
    encoder, scans, visible, _, expected = setting
    seen = {}

    def note(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        seen["after_first_block"], seen["after_first_transition"] = inputs[0], output

    handle = encoder.transitions[0].register_forward_hook(note)
    with torch.no_grad():
        patches = VisiblePatches(visible, torch.device("cpu"))
        encode_with(backend, ("scatter", "halo", "scatter", "halo"))(encoder, scans, patches)
    handle.remove()
    for key, found in seen.items():
        wanted = torch.stack([_to_zyx(expected[f"{key}.{sample}"]) for sample in range(2)])
        keep = mask_voxels(visible, wanted.shape[1:4])
        if backend == "gathered":  # patches side by side, each in the order z, y, x
            side = wanted.shape[1] // 2
            wanted = split_into_patches(wanted.permute(0, 4, 1, 2, 3), (2, 2, 2))[visible].permute(0, 2, 3, 4, 1)
            assert found.shape == (5, side, side, side, wanted.shape[-1])
        else:
            found, wanted = found[keep], wanted[keep]
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
