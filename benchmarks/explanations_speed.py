"""How long maps take: occlusion of one scan of 128³ voxels, and Grad-CAM of a hundred, with AD-NeXt-T.

    python benchmarks/explanations_speed.py

Occlusion covers boxes of 16 in steps of 8, those that touch the brain: an ellipsoid of 1.9 litres at 1.75 mm, which is
more than nearly all people have. Of Grad-CAM everything is timed that `adnext_explain` does for a case: the map, its
files over a scan of 1 mm and the picture. Seconds are of the wall clock and of the CPUs; the result is
benchmarks/results/explanations_speed.json.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.explanations.fill import brain_of
from adnext_plugin.explanations.grad_cam import GradCAM
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.explanations.occlusion import Occlusion
from adnext_plugin.explanations.thresholds import ThresholdSettings
from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.prediction.held_out_explanations import ExplainedCase
from adnext_plugin.task import Task
from adnext_plugin.training.provenance import provenance
from adnext_plugin.workflows.explanation_files import CaseFiles

RESULT = Path(__file__).parent / "results" / "explanations_speed.json"
SIZE, SPACING_MM = 128, 1.75
BRAIN_MM = (140, 180, 145)  # superior, anterior, right
SCANS = 100
TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def main() -> None:
    """Time both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all)")
    parser.add_argument("--scans", type=int, default=SCANS, help="of Grad-CAM (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = ExplainedNetwork(
        network=build_network(NetworkSettings(name="adnext_t", options={"init": "fan_in"}), 1, 2, (SIZE,) * 3),
        task=TASK,
        image_shape=(1, SIZE, SIZE, SIZE),
    )
    image = _brain()
    found = {
        "threads": arguments.threads,
        "brain_litres": float(brain_of(image).sum()) * SPACING_MM**3 / 1e6,
        "made_by": provenance(),
        "occlusion_of_one_scan": _occlusion(network, image),
        "grad_cam": _grad_cam(network, image, arguments.scans),
    }
    print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def _occlusion(network: ExplainedNetwork, image: np.ndarray) -> dict:
    method = Occlusion()
    with _Clock() as clock:
        method(network, image)
    return {"boxes": len(method.boxes(brain_of(image))), **clock.seconds}


def _grad_cam(network: ExplainedNetwork, image: np.ndarray, scans: int) -> dict:
    method, affine = GradCAM(), np.diag([SPACING_MM] * 3 + [1.0])
    properties = CaseProperties(
        fit="pad_crop",
        brain_litres=1.0,
        ras_shape_voxels=(224, 224, 224),
        ras_affine=tuple(tuple(float(value) for value in row) for row in np.eye(4)),
        spacing_mm=(1.0, 1.0, 1.0),
        foreground_box=((0, 224),) * 3,
        resampled_shape_voxels=(SIZE,) * 3,
        share_of_foreground_cut_off=0.0,
        key="",
        input_affine=tuple(tuple(float(value) for value in row) for row in affine),
    )
    with TemporaryDirectory() as folder, _Clock() as clock:
        files = CaseFiles(ThresholdSettings(), Path(folder), TASK)
        for index in range(scans):
            case = ExplainedCase(
                case_id=f"scan_{index}",
                subject_id="",
                fold=0,
                target=1,
                score=0.0,
                called="AD",
                image_zyx=image[0],
                brain_zyx=brain_of(image),
                map_zyx=method(network, image),
                affine=affine,
                properties=properties,
            )
            files.add(case)
        files.finish()
    return {"scans": scans, **clock.seconds}


def _brain() -> np.ndarray:
    """A noisy ellipsoid, 0 outside, (1, Z, Y, X)."""
    grid = np.stack(np.meshgrid(*[(np.arange(SIZE) - SIZE / 2) * SPACING_MM] * 3, indexing="ij"))
    radius = ((grid / np.reshape(BRAIN_MM, (3, 1, 1, 1)) * 2) ** 2).sum(axis=0)
    volume = np.random.default_rng(0).normal(size=(SIZE,) * 3)
    return np.where(radius < 1, volume, 0).astype(np.float32)[None]


class _Clock:
    def __enter__(self) -> "_Clock":
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = (
            now - then for now, then in zip((time.perf_counter(), time.process_time()), self._started, strict=True)
        )
        self.seconds = {"wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}


if __name__ == "__main__":
    main()
