"""The picture of the layers has what the import contracts check."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_diagram_of_layers_has_every_part_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    diagram = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL).group(1)
    bold = re.findall(r"\w+", " ".join(re.findall(r"<b>(.*?)</b>", diagram.replace("<br>", " "))))
    places = [[bold.index(part) for part in layer.split(" | ") if part in bold] for layer in layers]
    assert [part for layer in layers for part in layer.split(" | ") if part not in bold] == []
    assert all(max(upper) < min(lower) for upper, lower in pairwise(places))
