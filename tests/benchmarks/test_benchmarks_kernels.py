"""Kernels are compiled and counted for a GPU that is not there."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("triton", reason="Triton comes with PyTorch on Linux only")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("kernels_without_gpu")


def test_a_kernel_is_compiled_for_an_h100_and_spills_nothing(counted: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"C": 256, "K": 7, "E": 2, "BC": 64, "FLIP": True, "BIAS": False, "S": 2, "W": 5}
    found = counted.statistics_of(counted.kernels.convolve_cells, 1, **constants)
    assert found["spilled_bytes"] == 0 and 32 < found["registers"] < 128
    # a thread has two channels, and two cells have 64 pairs of tokens
    assert 1 < found["instructions_a_product"] == round(found["instructions"] / 128, 2) < 5


@pytest.mark.parametrize("length", [16, 8])
def test_products_within_a_volume_are_those_of_taps_that_end_with_it(counted: ModuleType, length: int) -> None:
    found = counted.products(length)
    # along an axis, 3 + 2 + 1 taps of the first tokens and as many of the last look outside
    assert found["within_the_volume_of_all"] == round(((7 * length - 12) / (7 * length)) ** 3, 3)
    assert 0.1 < found["made_among_visible_of_those_within"] < 0.4
