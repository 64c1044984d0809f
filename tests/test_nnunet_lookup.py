"""nnU-Net's search for trainers, with modules about that load others when they are looked at."""

import sys
from types import ModuleType

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from adnext_plugin.environment import environment_with
from adnext_plugin.nnunet_lookup import find_in_files, walked
from adnext_plugin.paths import hook_dir


class Lazy(ModuleType):
    def __getattribute__(self, name: str) -> object:
        if name == "__file__" and "loaded_by_lazy" not in sys.modules:
            sys.modules["loaded_by_lazy"] = ModuleType("loaded_by_lazy")
        return super().__getattribute__(name)


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loaded_by_lazy", None)
    del sys.modules["loaded_by_lazy"]
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    yield
    sys.modules.pop("loaded_by_lazy", None)


def test_a_lazy_module_does_not_end_the_search(lazy, capsys) -> None:
    with environment_with(nnUNet_extTrainer=str(hook_dir())):
        with pytest.raises(RuntimeError, match="changed size"):  # nnU-Net's own search
            recursive_find_trainer_class_by_name("ADNeXtTrainer_T")
        sys.modules.pop("loaded_by_lazy")
        capsys.readouterr()
        assert find_in_files("ADNeXtTrainer_T").__name__ == "ADNeXtTrainer_T"
        assert find_in_files("nnUNetTrainer").__name__ == "nnUNetTrainer"
        assert find_in_files("NoSuchTrainer") is None
        assert capsys.readouterr().out == ""
        recursive_find_trainer_class_by_name("ADNeXtTrainer_T")


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def search() -> None:
        calls.append(1)
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        walked(search)
    assert len(calls) == 1
