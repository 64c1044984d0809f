"""The picture of the layers has what the import contracts check."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_diagram_of_layers_has_every_folder_and_only_parts_that_exist_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    parts = [layer.split(" | ") for layer in layers]
    diagram = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL).group(1)
    drawn = re.findall(r"\w+", " ".join(re.findall(r"<b>(.*?)</b>", diagram.replace("<br>", " "))))
    folders = {part for layer in parts for part in layer if (ROOT / "adnext_plugin" / part).is_dir()}
    assert folders - set(drawn) == set()
    assert set(drawn) - {part for layer in parts for part in layer} == {"nnunet_hook"}
    places = [[drawn.index(part) for part in layer if part in drawn] for layer in parts]
    assert all(max(upper) < min(lower) for upper, lower in pairwise(filter(None, places)))
