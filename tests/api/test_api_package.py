"""The package's top level: lazy, complete, typed, and what it lists and builds by name."""

import ast
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import adnext_plugin as a
from adnext_plugin.errors import PathsError, SettingsError, UnknownNameError, WeightsError

SIZE = (32, 32, 32)


def test_importing_the_package_and_listing_names_loads_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, adnext_plugin as a\n"
        "assert a.list_networks() and a.list_trainers() and dir(a)\n"
        "heavy = {'torch', 'nnunetv2', 'monai', 'pandas', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_promised_name_is_there_and_shown_to_type_checkers() -> None:
    assert files("adnext_plugin").joinpath("py.typed").is_file()
    tree = ast.parse(Path(a.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert set(a.__all__) == set(typed) <= set(dir(a))
    for name, module in typed.items():
        value = getattr(a, name)
        assert value.__module__ == module and value.__doc__, name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'laod_model'"):
        _ = a.laod_model


def test_names_are_listed_by_pattern() -> None:
    assert a.list_networks("adnext_*") == ["adnext_b", "adnext_l", "adnext_s", "adnext_t"]
    assert a.list_networks("resnet10") == ["resnet10"]
    assert "ADNeXtTrainer_T" in a.list_trainers("ADNeXtTrainer_?")
    assert a.list_trainers("nothing*") == []


def test_a_network_is_created_with_its_options_and_answers_a_batch() -> None:
    network = a.create_network("adnext_t", 2, 3, SIZE, kernel_size=5)
    assert network(torch.zeros(2, 2, *SIZE)).shape == (2, 3)
    assert (5, 5, 5) in {module.kernel_size for module in network.modules() if isinstance(module, torch.nn.Conv3d)}


def test_a_pretrained_encoder_is_taken_over_and_the_head_is_not(tmp_path) -> None:
    source = a.create_network("adnext_t", 1, 2, SIZE)
    torch.save({"network_weights": source.state_dict()}, tmp_path / "checkpoint.pth")
    network = a.create_network("adnext_t", 1, 5, SIZE, pretrained=tmp_path / "checkpoint.pth")
    theirs = source.state_dict()
    for name, tensor in network.state_dict().items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)
    assert network(torch.zeros(1, 1, *SIZE)).shape == (1, 5)
    with pytest.raises(WeightsError, match="covers"):
        a.create_network("adnext_s", 1, 2, SIZE, pretrained=tmp_path / "checkpoint.pth")


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("adnxt_t", {}, UnknownNameError, "did you mean 'adnext_t'"),
        ("adnext_t", {"kernel": 5}, SettingsError, "no option 'kernel'; did you mean 'kernel_size'"),
        ("adnext_t", {"input_size_voxels": (32, 32)}, SettingsError, r"three sizes \(z, y, x\)"),
        ("adnext_t", {"num_outputs": 0}, SettingsError, "from 1 on"),
        ("adnext_t", {"pretrained": "nowhere.pth"}, PathsError, "nowhere.pth does not exist"),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_one_line(name, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        a.create_network(name, **{"input_size_voxels": SIZE, **arguments})
