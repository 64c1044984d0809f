"""Kernels for GPUs give what PyTorch gives; without a GPU, as Triton's interpreter carries them out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")  # comes with PyTorch on Linux only


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    """Largest relative errors of an output and of its gradients, by case."""
    script = Path(__file__).parent / "kernels_interpreted.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "case", ["k3", "k5", "k7", "k3, small tiles", "k3, one token", "k3, contiguous", "k3, channels last"]
)
def test_the_convolution_and_its_gradients_are_those_of_float64(errors: dict, case: str) -> None:
    assert len(errors[case]) == 4 and max(errors[case]) < 1e-6


@pytest.mark.parametrize("case", ["response norm", "response norm of patches", "layer norm"])
def test_norms_and_their_gradients_are_those_of_float64(errors: dict, case: str) -> None:
    assert len(errors[case]) == 4 and max(errors[case]) < 2e-6


@pytest.mark.parametrize("case", ["k3, bfloat16", "response norm, bfloat16", "layer norm, bfloat16"])
def test_in_bfloat16_only_what_is_written_is_rounded(errors: dict, case: str) -> None:
    out, grad_x, grad_weight, grad_bias = errors[case]
    assert 1e-5 < out < 2**-7 and 1e-5 < grad_x < 2**-7  # one step: the interpreter cuts off
    assert max(grad_weight, grad_bias) < 2e-6  # these stay float32


def test_the_weights_gradient_repeats_to_the_bit(errors: dict) -> None:
    assert errors["repeats"] == [0.0]
