"""Tables that repeat what the code says say the same."""

import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from adnext_plugin.evaluation.scores.score import CLASS
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.networks.costs import count_multiply_adds, count_parameters
from adnext_plugin.networks.segmentation.build import build_segmenter
from adnext_plugin.networks.table4 import PAPER
from adnext_plugin.plan import NetworkSettings, PreprocessingSettings
from adnext_plugin.pretraining.amaes.options import AMAESOptions
from adnext_plugin.pretraining.contrast.options import ContrastiveOptions
from adnext_plugin.pretraining.hybrid.options import HybridOptions
from adnext_plugin.pretraining.masked_autoencoder.options import FCMAEOptions
from adnext_plugin.pretraining.masked_tokens.options import MAEOptions, SimMIMOptions
from adnext_plugin.pretraining.proxy.options import ProxyOptions
from adnext_plugin.pretraining.swinunetr.options import SwinUNETROptions
from adnext_plugin.records import to_json
from adnext_plugin.registry import AUGMENTATIONS, NETWORKS, OBJECTIVES, TRAINERS
from adnext_plugin.settings import (
    FittedSettings,
    LinearSettings,
    PretrainingSettings,
    ProbeSettings,
    RunSettings,
    SegmentationSettings,
    TrainerSettings,
)
from adnext_plugin.trainers.segmentation.variants import TRAINERS as SEGMENTATION_TRAINERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its header."""
    section = f"\n{page.read_text()}".split(f"\n{heading}\n", 1)[1]
    table = re.search(r"^\|.*(?:\n\|.*)+", section, re.MULTILINE).group()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


SETTINGS_TABLES = {
    "## Every run": (RunSettings, ()),
    "## Labelled tasks": (TrainerSettings, RunSettings),
    "## Linear models": (LinearSettings, TrainerSettings),
    "## Linear probes": (ProbeSettings, FittedSettings),
    "## Pre-training": (PretrainingSettings, RunSettings),
    "### Options of `fcmae`": (FCMAEOptions, ()),
    "### Options of `contrastive`": (ContrastiveOptions, ()),
    "### Options of `hybrid`": (HybridOptions, ContrastiveOptions),
    "### Options of `proxy`": (ProxyOptions, ()),
    "### Options of `amaes`": (AMAESOptions, ()),
    "### Options of `simmim`": (SimMIMOptions, ()),
    "### Options of `mae`": (MAEOptions, ()),
    "### Options of `swinunetr`": (SwinUNETROptions, ()),
    "## Segmentation": (SegmentationSettings, ()),
    "## Preprocessing": (PreprocessingSettings, ()),
}


@pytest.mark.parametrize("heading", SETTINGS_TABLES)
def test_the_tables_of_settings_have_every_setting_with_its_default(heading: str) -> None:
    settings, general = SETTINGS_TABLES[heading]
    inherited = to_json(general()) if general else {}
    expected = {
        name: value for name, value in to_json(settings()).items() if name not in inherited or inherited[name] != value
    }
    rows = _rows(DOCS / "settings.md", heading)
    assert {_code(name)[0]: json.loads(_code(default)[0]) for name, default, _ in rows} == expected
    assert len(rows) == len(expected)


def _ours(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group) if entry.module.startswith("adnext_plugin.")}


def _changes(cell: str) -> dict[str, Any]:
    """`name=value`, `name=value` with JSON values."""
    return {name: json.loads(value) for name, _, value in (code.partition("=") for code in _code(cell))}


def test_the_table_of_trainers_has_every_trainer_with_all_that_it_changes() -> None:
    documented = {}
    for trainer, network, settings in _rows(DOCS / "settings.md", "## What each trainer changes"):
        name, _, options = network.partition(",")
        documented[_code(trainer)[0]] = (name.strip("`") or None, _changes(options), _changes(settings))
    actual = {}
    for name, entry in _ours(TRAINERS).items():
        trainer = entry.load()
        defaults = to_json(type(trainer.settings)())
        changed = {key: value for key, value in to_json(trainer.settings).items() if value != defaults[key]}
        changed |= changed.pop("options", {})
        network = trainer.network_settings or NetworkSettings()
        actual[name] = (network.name, network.options, changed)
    assert documented == actual


def test_the_table_of_segmentation_trainers_has_each_with_its_parameters() -> None:
    documented = {}
    for name, _, parameters in _rows(DOCS / "segmentation.md", "## Trainers"):
        documented[_code(name)[0]] = int(parameters.replace(",", ""))
    found = {}
    for name, trainer in SEGMENTATION_TRAINERS.items():
        network, decoder, settings = trainer.network_settings, trainer.decoder, trainer.settings
        with torch.device("meta"):
            built = build_segmenter(network, decoder, 1, 2, (64,) * 3, deep_supervision=settings.deep_supervision)
        found[name] = count_parameters(built)
    assert documented == found


def _names(cell: str) -> list[str]:
    """`adnext_t`, `_s` are two names: one that begins with an underscore goes on from the first up to its last one."""
    first, *others = _code(cell)
    stem = first.rpartition("_")[0] or first
    return [first, *(stem + other if other.startswith("_") else other for other in others)]


def _network_rows() -> Iterator[tuple[list[str], list[str]]]:
    for cells in _rows(DOCS / "networks.md", "# Networks"):
        yield _names(cells[0]), cells


def test_the_table_of_networks_has_every_network_once() -> None:
    assert sorted(name for names, _ in _network_rows() for name in names) == sorted(_ours(NETWORKS))


def test_the_table_of_networks_has_every_option() -> None:
    for names, cells in _network_rows():
        for name in names:
            parameters = inspect.signature(_ours(NETWORKS)[name].load()).parameters.values()
            options = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
            assert _code(cells[-1]) == options, name


def _cubes(cell: str) -> list[int]:
    return [int(edge) for edge in re.findall(r"(\d+)³", cell)]


OUTPUTS = {"": 2, "with one output": 1, "with three outputs": 3}
COUNTED_IN_SECONDS = 20e9  # multiply-adds


def _stated_costs() -> Iterator[tuple[str, int, int, int, str]]:
    """Name, size, outputs, parameters and multiply-adds in G of every network and size in the table."""
    for names, cells in _network_rows():
        parameters, remark = re.match(r"([\d,; ]+)(.*)", cells[5]).groups()
        for index, multiply_adds in enumerate(cells[6].removesuffix(" G").split("; ")):
            sizes = _cubes(cells[4])
            yield (
                names[min(index, len(names) - 1)],
                sizes[min(index, len(sizes) - 1)],
                OUTPUTS.get(remark.strip(), 2),
                int(parameters.split(";")[index].replace(",", "")),
                multiply_adds,
            )


@pytest.mark.parametrize(("name", "size", "outputs", "parameters", "multiply_adds"), _stated_costs())
def test_the_table_of_networks_states_their_costs(
    name: str, size: int, outputs: int, parameters: int, multiply_adds: str
) -> None:
    builder = _ours(NETWORKS)[name].load()
    is_quick = float(multiply_adds) * 1e9 < COUNTED_IN_SECONDS
    with torch.device("cpu" if is_quick else "meta"):
        network = builder(1, outputs, (size, size, size))
    assert count_parameters(network) == parameters
    if is_quick:
        assert _rounded(count_multiply_adds(network, 1, (size,) * 3) / 1e9, multiply_adds) == multiply_adds


def test_the_table_beside_the_papers_has_the_papers_numbers_and_those_of_the_table_of_networks() -> None:
    ours = {name: (parameters, float(multiply_adds)) for name, _, _, parameters, multiply_adds in _stated_costs()}
    rows = _rows(DOCS / "networks.md", "## Beside the paper's Table 4")
    for (label, paper_m, our_m, paper_g, our_g), paper in zip(rows, PAPER, strict=True):
        assert (label, paper_m, paper_g) == (paper.label, paper.parameters_m, paper.multiply_adds_g)
        parameters, multiply_adds = ours[paper.name]
        assert (_rounded(parameters / 1e6, our_m), _rounded(multiply_adds, our_g)) == (our_m, our_g), label


def _rounded(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


def test_the_readme_states_what_its_trainers_cost() -> None:
    for cells in _rows(ROOT / "README.md", "## Choosing a trainer"):
        stated = [re.match(r"[\d., ]+\d", cell).group().split(", ") for cell in cells[1:3] if cell]
        for name, *costs in zip(_trainer_names(cells[0]), *stated, strict=True) if stated else ():
            network = _ours(TRAINERS)[name].load().network_settings
            options = {**network.options, "mirror": False}  # which sends every scan through twice, only to predict
            built = _ours(NETWORKS)[network.name].load()(1, 2, (128, 128, 128), **options)
            found = count_parameters(built) / 1e6, count_multiply_adds(built, 1, (128, 128, 128)) / 1e9
            assert [_rounded(value, like) for value, like in zip(found, costs, strict=True)] == costs, name


def _trainer_names(cell: str) -> list[str]:
    """`ADNeXtTrainer_T_Small`, `_S_Small` are two trainers."""
    first, *others = _code(cell)
    return [first, *("ADNeXtTrainer" + other for other in others)]


def test_the_table_of_augmentations_has_every_augmentation() -> None:
    rows = _rows(DOCS / "settings.md", "## Augmentations")
    assert sorted(_code(name)[0] for name, _ in rows) == sorted(_ours(AUGMENTATIONS))


def test_the_tables_of_scores_have_every_score() -> None:
    documented = set()
    for heading in ("## Scores of two or more classes", "## Calibration", "## A quantity instead of classes"):
        for cells in _rows(DOCS / "evaluation.md", heading):
            documented |= set(_names(cells[0])) if _code(cells[0]) else set()
    at_threshold = "_at_selection_threshold"
    scores = {score.name.replace(CLASS, "<class>").removesuffix(at_threshold) for score in BUILT_IN}
    assert scores - documented == set()
    assert documented - scores == {f"...{at_threshold}", "within_site"}


def test_the_table_of_objectives_has_every_objective_and_all_their_trainers() -> None:
    documented = {
        _code(name)[0]: _names(trainers) for name, _, _, trainers in _rows(DOCS / "pretraining.md", "# Pre-training")
    }
    actual: dict[str, list[str]] = {name: [] for name in _ours(OBJECTIVES)}
    for name, entry in _ours(TRAINERS).items():
        objective = getattr(entry.load().settings, "objective", None)
        if objective is not None and "variants.pretraining_ablations" not in entry.module:
            actual[objective].append(name)
    assert {name: sorted(found) for name, found in documented.items()} == {
        name: sorted(found) for name, found in actual.items()
    }
