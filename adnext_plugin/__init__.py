"""AD-NeXt classifiers of 3D brain scans as a plugin for nnU-Net v2.

What a Python program needs is here by name; docs/api.md shows it at work. A name is looked up when it is first used, so
that importing the package costs nothing and loads neither torch nor pandas.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adnext_plugin.api.datasets import import_dataset, plan_and_preprocess
    from adnext_plugin.api.models import LoadedModel, load_model, prepare_scan
    from adnext_plugin.api.networks import create_network, list_networks, list_trainers
    from adnext_plugin.api.results import RunResults, read_results
    from adnext_plugin.api.runs import compare, evaluate, train
    from adnext_plugin.api.segmentation import SegmentationResults, compare_segmentations, evaluate_segmentation
    from adnext_plugin.errors import AdnextError

__version__ = version("adnext_plugin")

__all__ = [
    "AdnextError",
    "LoadedModel",
    "RunResults",
    "SegmentationResults",
    "compare",
    "compare_segmentations",
    "create_network",
    "evaluate",
    "evaluate_segmentation",
    "import_dataset",
    "list_networks",
    "list_trainers",
    "load_model",
    "plan_and_preprocess",
    "prepare_scan",
    "read_results",
    "train",
]

_PLACES = {
    "AdnextError": "errors",
    "LoadedModel": "api.models",
    "RunResults": "api.results",
    "SegmentationResults": "api.segmentation",
    "compare": "api.runs",
    "compare_segmentations": "api.segmentation",
    "create_network": "api.networks",
    "evaluate": "api.runs",
    "evaluate_segmentation": "api.segmentation",
    "import_dataset": "api.datasets",
    "list_networks": "api.networks",
    "list_trainers": "api.networks",
    "load_model": "api.models",
    "plan_and_preprocess": "api.datasets",
    "prepare_scan": "api.models",
    "read_results": "api.results",
    "train": "api.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'adnext_plugin' has no attribute {name!r}")
    value = getattr(import_module(f"adnext_plugin.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
