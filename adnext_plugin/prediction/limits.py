"""How much a model from elsewhere may ask of this machine, checked before anything is built of it.

The numbers leave room for any published network on whole-body scans, and none for a bundle that only fills a memory,
or never ends.
"""

import math
from collections.abc import Iterator, Mapping

import torch

from adnext_plugin.errors import BundleError
from adnext_plugin.plan import Plan
from adnext_plugin.prediction.built_networks import possible_networks
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.prediction.model import FoldModel, Model
from adnext_plugin.records import to_json

MOST_VOXELS = 512**3
SPACING_MM = (0.1, 20.0)
TEMPERATURES = (0.01, 100.0)
MOST_N4_ITERATIONS = 1000
LARGEST_OPTION = 100_000  # of a network: widths, depths, sizes
LONGEST_TEXT = 500


def require_modest(description: ModelDescription, where: str) -> None:
    """Refuse a description that asks for more than a real one would, or whose texts are more than text.

    Args:
        description: of a bundle.
        where: its file, for messages.

    Raises:
        BundleError: with the value.
    """
    for name, problem in _problems(description):
        raise BundleError(f"{where} is refused: {name} {problem}")


def require_own_weights(model: Model, where: str) -> None:
    """Refuse tensors that are not those of the plan's network, before memory is taken for it, or that are not finite.

    Raises:
        BundleError: names the first tensor that does not fit.
    """
    with torch.device("meta"):
        expected = [_shapes(network.state_dict()) for network in possible_networks(model.description)]
    for description, fold in zip(model.description.folds, model.folds, strict=True):
        there = _shapes(fold.weights)
        if there not in expected:
            planned = expected[0]
            name = next(name for name in sorted({*planned, *there}) if there.get(name) != planned.get(name))
            raise BundleError(
                f"{where}: the weights of fold {description.name} are of another network than the plan's "
                f"{model.description.plan.network.name}: {name!r} has the shape {there.get(name)}, there "
                f"{planned.get(name)}; export the model again, or install the package of {model.description.trainer}"
            )
        require_finite(fold, f"{where}, fold {description.name}")


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_finite(fold: FoldModel, where: str) -> None:
    """Refuse weights with values that are no numbers.

    Raises:
        BundleError: names the tensor.
    """
    for name, tensor in fold.weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BundleError(f"{where}: {name} holds values that are not finite; train and export the model again")


def _problems(description: ModelDescription) -> Iterator[tuple[str, str]]:
    plan = description.plan
    yield from _problems_of_sizes(plan)
    low, high = TEMPERATURES
    for fold in description.folds:
        if not low <= fold.temperature <= high:
            yield f"the temperature of fold {fold.name}", f"is {fold.temperature}, not {low} to {high}"
        if fold.threshold is not None and not 0 <= fold.threshold <= 1:
            yield f"the threshold of fold {fold.name}", f"is {fold.threshold}, not 0 to 1"
    for name, value in _leaves(to_json(description)):
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
            yield name, f"is no text of at most {LONGEST_TEXT} printable characters: {value[:40]!r}"
    for name, value in _leaves(plan.network.options):
        if isinstance(value, int | float) and not abs(value) <= LARGEST_OPTION:
            yield f"network option {name}", f"is {value}, more than {LARGEST_OPTION}"


def _problems_of_sizes(plan: Plan) -> Iterator[tuple[str, str]]:
    settings = plan.preprocessing
    sizes = {"input_size_voxels": settings.input_size_voxels, "crop_voxels": plan.network_input_voxels}
    for name, size in sizes.items():
        if math.prod(size) > MOST_VOXELS:
            yield name, f"is {list(size)}, more than {MOST_VOXELS} voxels"
    low, high = SPACING_MM
    if not all(low <= length <= high for length in settings.spacing_mm):
        yield "spacing_mm", f"is {list(settings.spacing_mm)}, not {low} to {high} mm"
    if sum(settings.n4_iterations) > MOST_N4_ITERATIONS:
        yield "n4_iterations", f"is {list(settings.n4_iterations)}, together more than {MOST_N4_ITERATIONS}"


def _leaves(content: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield f"a key of {name or 'the description'}", key
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for index, value in enumerate(content):
            yield from _leaves(value, f"{name}[{index}]")
    else:
        yield name, content
