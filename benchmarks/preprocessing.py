"""Whole scans to 128³: time per scan and core, and fidelity, beside nnU-Net's preprocessor and the paper's MONAI chain.

    python benchmarks/preprocessing.py

Timed is everything from the file to the array of 128³ in memory, CPU seconds of one thread, methods alternated within
one run, median over repeats and scans; `written` adds what adnext_plugin and nnU-Net do to keep the result (hashing,
compressing, fsync; nnU-Net also keeps a mask). Scans are brains already, so that no brain extraction is timed.

Two grids: `cube`, the brain's box stretched to 128³ (`--preset paper`), and `true_size`, 1.75 mm, cut or padded to 128³
(the default). nnU-Net's DefaultPreprocessor does both by its target spacing (cubic, its default). MONAI's chain is that
of the AD-NeXt code: RAS, 1.75 mm bilinear, crop, z-score, then Resize, or a cut for `true_size`.

Fidelity is judged by real brains at 1 × 1.33 × 1.33 mm (ds000011), which know more than the coarser grids can show:
`true_size` from these scans themselves, which is downsampling, and `cube` from scans made of them by averaging 2×2×2
voxels, as a scanner with larger voxels would, which is upsampling. Right is the quintic spline through the fine scan,
averaged over the voxels of the result. How widely is open to argument, and both answers are given: over the
`full_voxel`, as if the fine scan were the brain itself; or, as its voxels are averages already, over the `excess` by
which the result's are wider (variances of boxes add up: sqrt(d² - 1) voxels). Each method is compared where its own
grid lies, up to gain and offset, as they z-score differently. The error is the root mean square difference in per cent
of the reference's deviation, `inside` the brain, more than 4 mm from its surface, where only sampling counts; and over
the `whole` array, except MONAI's chain: it z-scores after the surface is blurred, which is not a matter of sampling.
Needs the real scans (ADNEXT_TEST_DATA).
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai import transforms
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy import ndimage
from scipy.interpolate import make_interp_spline
from threadpoolctl import threadpool_limits

from adnext_plugin.images import Volume, foreground_box, read_volume, reorient_to_ras
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains.brain_networks import extract_brain
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.grid.geometry import pad_crop
from adnext_plugin.preprocessing.preprocessor import CaseJob, prepare_case
from adnext_plugin.preprocessing.steps.z_score import z_score_foreground
from adnext_plugin.training.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "preprocessing.json"
EDGE, SPACING_MM = 128, (1.75, 1.75, 1.75)
FITS = {"cube": "resize", "true_size": "pad_crop"}
SURFACE_MM, POINTS = 4, 6
WIDTHS = {"full_voxel": lambda step: step, "excess": lambda step: max(0, step**2 - 1) ** 0.5}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A result, z, y, x, and where its voxels lie: first one and step along each axis, in voxels of the RAS scan."""

    volume_zyx: np.ndarray
    first: np.ndarray
    step: np.ndarray


def ours(image: Path, grid: str, interpolation: str) -> Placed:
    """adnext_plugin; intensities unclipped, as the others leave them."""
    done = prepare(read_volume(image), _settings(grid, interpolation))
    box = np.array(done.properties["foreground_box"])
    spacing_mm, shape = done.properties["spacing_mm"], done.properties["resampled_shape_voxels"]
    step = (box[:, 1] - box[:, 0]) / EDGE if grid == "cube" else np.divide(SPACING_MM, spacing_mm)
    return _about_centre(done.volume_zyx, box, step, (EDGE,) * 3 if grid == "cube" else shape)


def nnunet(image: Path, grid: str, spacing_mm: tuple[float, ...]) -> Placed:
    """nnU-Net's DefaultPreprocessor at the spacing that gives the grid."""
    plans = _nnunet_plans(spacing_mm)
    configuration = plans.get_configuration("3d_fullres")
    volume, _, properties = DefaultPreprocessor(verbose=False).run_case([str(image)], None, plans, configuration, {})
    box, volume_zyx = np.array(properties["bbox_used_for_cropping"]), volume[0]
    step = (box[:, 1] - box[:, 0]) / volume_zyx.shape
    return _about_centre(pad_crop(volume_zyx, (EDGE,) * 3), box, step, volume_zyx.shape)


def monai(image: Path, grid: str) -> Placed:
    """The chain of the AD-NeXt code."""
    last = transforms.Resize((EDGE,) * 3) if grid == "cube" else transforms.ResizeWithPadOrCrop((EDGE,) * 3)
    chain = transforms.Compose(
        [
            transforms.LoadImage(image_only=True, ensure_channel_first=True),
            transforms.Orientation("RAS"),
            transforms.Spacing(SPACING_MM, mode="bilinear"),
            transforms.CropForeground(),
            transforms.NormalizeIntensity(nonzero=True),
            last,
        ]
    )
    done = chain(image)
    scan = nibabel.as_closest_canonical(nibabel.load(image)).affine
    voxel_from_grid = np.linalg.inv(scan) @ done.affine.numpy()
    step = np.diag(voxel_from_grid)[:3]
    assert np.allclose(voxel_from_grid[:3, :3], np.diag(step), atol=1e-3)
    return Placed(volume_zyx=done[0].numpy().T, first=voxel_from_grid[:3, 3][::-1], step=step[::-1])


def main() -> None:
    """Measure speed on all sets, fidelity on the fine scans; report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=6, help="of each set (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI's and nnU-Net's, on their own use of numpy
    torch.set_num_threads(1)
    data = Path(os.environ.get("ADNEXT_TEST_DATA", ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as work, threadpool_limits(1):
        heads = sorted(data.glob("bids_ds000011/sub-*/anat/*.nii.gz"))[: arguments.scans]
        pairs = [_brains(head, Path(work)) for head in heads]
        sets = {
            "oasis1_2mm": sorted((data / "oasis1" / "images").glob("*.nii.gz"))[: arguments.scans],
            "ixi_2mm": sorted((data / "ixi" / "brain").glob("*.nii.gz"))[: arguments.scans],
            "ds000011_1.3mm": [fine for fine, _ in pairs],
        }
        report = {
            "made_by": provenance(),
            "scans_of_each_set": arguments.scans,
            "repeats": arguments.repeats,
            "load_average_before": round(os.getloadavg()[0], 1),
            "speed": {
                f"{name}_{grid}": _speed(images, grid, arguments.repeats, Path(work) / "written")
                for name, images in sets.items()
                for grid in FITS
            },
            "error_percent": {
                "true_size_from_1.3mm": _fidelity([(fine, fine, 1) for fine, _ in pairs], "true_size"),
                "cube_from_2.6mm": _fidelity([(coarse, fine, 2) for fine, coarse in pairs], "cube"),
            },
        }
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _methods(image: Path, grid: str) -> dict[str, Callable[[], Placed]]:
    spacing_mm = _nnunet_spacing(image, grid)
    return {
        "adnext_linear": partial(ours, image, grid, "linear"),
        "adnext_cubic": partial(ours, image, grid, "cubic"),
        "nnunet_cubic": partial(nnunet, image, grid, spacing_mm),
        "monai_linear": partial(monai, image, grid),
    }


def _speed(images: list[Path], grid: str, repeats: int, folder: Path) -> dict:
    seconds: dict[str, list[float]] = {}
    for image in images:
        jobs = _methods(image, grid)
        jobs |= {
            "adnext_linear_written": partial(_write_ours, image, grid, "linear", folder),
            "adnext_cubic_written": partial(_write_ours, image, grid, "cubic", folder),
            "nnunet_cubic_written": partial(_write_nnunet, image, _nnunet_spacing(image, grid), folder),
        }
        for _ in range(repeats):
            for name, job in jobs.items():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                start = time.process_time()
                job()
                seconds.setdefault(name, []).append(time.process_time() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "milliseconds": {name: round(1000 * value, 1) for name, value in median.items()},
        "times_nnunet_cubic": {
            name: round(median["nnunet_cubic"] / median[name], 1) for name in ("adnext_linear", "adnext_cubic")
        },
        "times_nnunet_cubic_written": {
            name: round(median["nnunet_cubic_written"] / median[f"{name}_written"], 1)
            for name in ("adnext_linear", "adnext_cubic")
        },
        "times_monai_linear": {
            name: round(median["monai_linear"] / median[name], 1) for name in ("adnext_linear", "adnext_cubic")
        },
    }


def _write_ours(image: Path, grid: str, interpolation: str, folder: Path) -> None:
    prepare_case(CaseJob(case="case", image=image, folder=folder, settings=_settings(grid, interpolation)))


def _write_nnunet(image: Path, spacing_mm: tuple[float, ...], folder: Path) -> None:
    plans = _nnunet_plans(spacing_mm)
    configuration = plans.get_configuration("3d_fullres")
    DefaultPreprocessor(verbose=False).run_case_save(str(folder / "case"), [str(image)], None, plans, configuration, {})


def _settings(grid: str, interpolation: str) -> PreprocessingSettings:
    return PreprocessingSettings(
        spacing_mm=SPACING_MM,
        input_size_voxels=(EDGE,) * 3,
        fit=FITS[grid],
        interpolation=interpolation,
        clip_percentiles=None,
        brain_extraction="none",
    )


def _nnunet_spacing(image: Path, grid: str) -> tuple[float, ...]:
    if grid == "true_size":
        return SPACING_MM
    scan = reorient_to_ras(read_volume(image))
    box = foreground_box(scan.volume_zyx)
    return tuple((part.stop - part.start) * mm / EDGE for part, mm in zip(box, scan.spacing_mm, strict=True))


def _nnunet_plans(spacing_mm: tuple[float, ...]) -> PlansManager:
    resampling = {"order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "any",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": [EDGE] * 3,
        "spacing": list(spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = {
        "dataset_name": "any",
        "plans_name": "any",
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"3d_fullres": configuration},
    }
    return PlansManager(plans)


def _about_centre(volume_zyx: np.ndarray, box: np.ndarray, step: np.ndarray, shape: tuple[int, ...]) -> Placed:
    """Place a grid of `shape` about the box's centre, which was then cut or padded to the cube as `pad_crop` does."""
    surplus = np.subtract(shape, EDGE)
    shift = np.sign(surplus) * (np.abs(surplus) // 2)
    first = (box.sum(axis=1) - 1) / 2 + step * (shift - (np.array(shape) - 1) / 2)
    return Placed(volume_zyx=volume_zyx, first=first, step=np.asarray(step))


def _brains(head: Path, work: Path) -> tuple[Path, Path]:
    """The brain of a head, in RAS order, and the same with voxels of twice the edge."""
    scan = reorient_to_ras(read_volume(head))
    mask_zyx = extract_brain(scan, PreprocessingSettings(), 1)
    even = tuple(slice(0, size // 2 * 2) for size in mask_zyx.shape)
    fine_zyx = np.where(mask_zyx, scan.volume_zyx, 0)[even]
    blocks = tuple(part for size in fine_zyx.shape for part in (size // 2, 2))
    coarse_zyx = fine_zyx.reshape(blocks).mean(axis=(1, 3, 5))
    coarse_zyx[mask_zyx[even].reshape(blocks).mean(axis=(1, 3, 5)) < 0.5] = 0
    coarse_affine = scan.affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    fine = Volume(volume_zyx=fine_zyx, affine=scan.affine)
    coarse = Volume(volume_zyx=coarse_zyx, affine=coarse_affine)
    return _save(fine, work / head.name), _save(coarse, work / f"coarse_{head.name}")


def _save(volume: Volume, path: Path) -> Path:
    # integers, as scanners write them
    nibabel.save(nibabel.Nifti1Image(np.rint(volume.volume_zyx.T).astype(np.int16), volume.affine), path)
    return path


def _fidelity(scans: list[tuple[Path, Path, int]], grid: str) -> dict:
    """Mean errors of all methods over (input, fine scan, fine voxels per edge of a voxel of the input)."""
    errors: dict[str, list[list[float]]] = {}
    for image, fine, factor in scans:
        reference = reorient_to_ras(read_volume(fine))
        fine_zyx, inside_zyx = z_score_foreground(reference.volume_zyx), _inside(reference)
        for name, method in _methods(image, grid).items():
            errors.setdefault(name, []).append(_errors(method(), fine_zyx, inside_zyx, factor))
    keys = [f"{place}_{width}" for width in WIDTHS for place in ("inside", "whole")]
    found = {
        name: dict(zip(keys, np.mean(values, axis=0).round(2).tolist(), strict=True)) for name, values in errors.items()
    }
    found["monai_linear"] = {key: value for key, value in found["monai_linear"].items() if key.startswith("inside")}
    return found


def _inside(scan: Volume) -> np.ndarray:
    depth_mm = ndimage.distance_transform_edt(ndimage.binary_fill_holes(scan.volume_zyx > 0), scan.spacing_mm)
    return depth_mm > SURFACE_MM


def _errors(result: Placed, fine_zyx: np.ndarray, inside_zyx: np.ndarray, factor: int) -> list[float]:
    first, step = factor * result.first + (factor - 1) / 2, factor * result.step
    axes = list(zip(fine_zyx.shape, first, step, strict=True))
    is_inside = _seen(inside_zyx.astype(np.float64), axes, "full_voxel", degree=1) > 0.999
    errors = []
    for width in WIDTHS:
        seen_zyx = _seen(fine_zyx, axes, width, degree=5)
        errors.append(_error(result.volume_zyx[is_inside], seen_zyx[is_inside]))
        errors.append(_error(result.volume_zyx, seen_zyx))
    return errors


def _seen(volume_zyx: np.ndarray, axes: list[tuple[int, float, float]], width: str, degree: int) -> np.ndarray:
    """Means of the spline through a scan over the voxels of a grid; it is 0 outside the scan."""
    weights = []
    for size, first, step in axes:
        parts = (np.arange(POINTS) + 0.5) / POINTS - 0.5
        places = first + step * np.arange(EDGE)[:, None] + WIDTHS[width](step) * parts
        spline = make_interp_spline(np.arange(size), np.eye(size), k=degree)
        values = np.where((places >= 0)[..., None] & (places <= size - 1)[..., None], spline(places), 0)
        weights.append(values.mean(axis=1))
    return np.einsum("zi,yj,xk,ijk->zyx", *weights, volume_zyx, optimize=True)


def _error(found: np.ndarray, right: np.ndarray) -> float:
    """What a straight line through all pairs leaves unexplained."""
    correlation = np.corrcoef(found.ravel().astype(np.float64), right.ravel())[0, 1]
    return 100 * float(np.sqrt(1 - correlation**2))


if __name__ == "__main__":
    main()
