"""Every network as a program in every format: whether it can be written, how long that takes, how its answers differ.

    python benchmarks/exports.py --formats torchscript onnx --networks adnext_t densenet121

Rows are added to the result as they come, and take the place of earlier ones of the same network and format.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from adnext_plugin.deployment.kinds import SUFFIXES
from adnext_plugin.deployment.writers import write_program
from adnext_plugin.errors import AdnextError
from adnext_plugin.networks.build import build_planned_network
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.prediction.description import FoldDescription, ModelDescription
from adnext_plugin.prediction.model import FoldModel, Model
from adnext_plugin.registry import NETWORKS, registered_names
from adnext_plugin.task import Task
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "exports.json"
SMALLEST = {"liu_cnn": 71, "polimi_cnn": 87, "resenc_l": 64}


def fresh_model(name: str, size: int) -> Model:
    """One fresh network of two classes."""
    torch.manual_seed(0)
    plan = Plan(
        preprocessing=PreprocessingSettings(input_size_voxels=(size,) * 3),
        network=NetworkSettings(name=name),
        task=Task(name="AD", target="diagnosis", classes=("CN", "AD")),
    )
    description = ModelDescription(
        dataset="Dataset001_Fresh",
        trainer="ADNeXtTrainer",
        plans_name="ADNeXtPlans",
        configuration="3d_fullres",
        protocol="honest",
        plan=plan,
        in_channels=1,
        stored_spacing_mm=(1.75, 1.75, 1.75),
        folds=(FoldDescription(name="0", threshold=0.5),),
        ranges={},
        trained_with={},
    )
    return Model(description=description, folds=(FoldModel(weights=build_planned_network(plan, 1).state_dict()),))


def row_of(name: str, to: str, size: int) -> dict:
    """What came of writing a network."""
    row = {"network": name, "format": to, "input_voxels": size}
    model = fresh_model(name, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{SUFFIXES[to]}"
        wall, processor = time.perf_counter(), time.process_time()
        try:
            row["largest_difference_of_a_probability"] = write_program(model, to, path)
            row["mebibytes"] = round(path.stat().st_size / 2**20, 1)
        except AdnextError as error:
            row["refused"] = str(error)
        row["seconds"] = round(time.perf_counter() - wall, 1)
        row["processor_seconds"] = round(time.process_time() - processor, 1)
    return {**row, "load_average": round(os.getloadavg()[0], 1), "torch": torch.__version__}


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=registered_names(NETWORKS))
    parser.add_argument("--formats", nargs="+", choices=SUFFIXES, default=["torchscript", "onnx"])
    parser.add_argument("--size", type=int, default=32, help="of the input, or a network's smallest")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    for to in arguments.formats:
        for name in arguments.networks:
            row = row_of(name, to, max(arguments.size, SMALLEST.get(name, 0)))
            rows = json.loads(arguments.result.read_text())["rows"] if arguments.result.is_file() else []
            rows = [one for one in rows if (one["network"], one["format"]) != (name, to)] + [row]
            rows.sort(key=lambda one: (one["format"], one["network"]))
            content = {"made_by": provenance(), "machine": platform.platform(), "rows": rows}
            arguments.result.write_text(json.dumps(content, indent=1) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
