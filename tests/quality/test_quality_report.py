"""The quality report finds what is wrong with a case and nothing much else."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import write_scan
from scipy import ndimage

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.cli import import_dataset, plan_and_preprocess, quality
from adnext_plugin.demo.phantom import load_template, make_phantom
from adnext_plugin.demo.phantom_cohort import draw_subjects
from adnext_plugin.images import Volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.quality.measurements import _is_head
from adnext_plugin.records import from_json
from adnext_plugin.workflows.demo import PRESET as DEMO

FAILURES = ("OAS1_0129", "OAS1_0198", "OAS1_0250", "OAS1_0254", "OAS1_0351")


def _person(seed: int) -> np.ndarray:
    """A toy brain, (x, y, z): front differs from back, top from bottom, but not left from right."""
    generator = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in (36, 42, 34)], indexing="ij")
    brain = 100 + 30 * y + 20 * z - 40 * (np.hypot(x * 1.5, y - 0.1) < 0.3) * (np.abs(z) < 0.4)
    texture = ndimage.gaussian_filter(generator.normal(0, 1, x.shape), 2) * 60
    size = 0.85 + 0.01 * generator.normal()
    return np.where(np.sqrt(x**2 + y**2 + (z * (1 + 0.3 * (y > 0.3))) ** 2) < size, brain + texture, 0).astype(
        np.float32
    )


def test_each_kind_of_oddity_is_listed_with_its_reason(fresh, capsys) -> None:
    scans = {f"p{index:02d}": _person(index) for index in range(30)}
    scans["p03"] = scans["p03"][:, :, ::-1].copy()  # upside down
    scans["p07"] = scans["p08"].copy() * 1.5  # the scan of another person
    scans["p11"] = ndimage.rotate(scans["p11"], 15, axes=(1, 2), reshape=False, order=1)
    scans["p15"] = np.where(np.arange(36)[:, None, None] < 14, 0, scans["p15"])  # a side is missing
    rows = ["subject,path,diagnosis"]
    for index, (name, volume_xyz) in enumerate(scans.items()):
        write_scan(fresh.source / f"{name}.nii.gz", volume_xyz, 3.0)
        rows.append(f"{name},{name}.nii.gz,{'AB'[index % 2]}")
    table = fresh.source / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    target = ["--target", "diagnosis", "--positive", "B"]
    assert import_dataset.main(["7", "Toy", "--table", str(table), *target, "-np", "1"]) == 0
    size = ["--input-size", "32", "40", "36", "--spacing", "3", "3", "3"]
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *size]) == 0
    capsys.readouterr()
    assert quality.main(["-d", "7", "-np", "1", "--top", "8"]) == 0
    listed = dict(re.findall(r"^  (p\d\d)\S*: (.*)$", capsys.readouterr().out, flags=re.MULTILINE))
    assert "exchanged or flipped" in listed["p03"]
    assert "as like p08" in listed["p07"] or "the same scan as p08" in listed["p07"]
    assert re.search("turned by 1[0-9] degrees", listed["p11"])
    assert "unlike the mean" in listed["p15"] and "litres" in listed["p15"]
    folder = fresh.preprocessed / "Dataset007_Toy" / "quality"
    numbers = pd.read_csv(folder / "quality.csv")
    assert len(numbers) == 30 and (numbers[["stretch_z", "stretch_y", "stretch_x"]] == 1).all(axis=None)
    page = (folder / "quality.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * 30 and "http" not in page.replace("http-equiv", "")


def _head(seed: int, *, has_scalp: bool) -> np.ndarray:
    """A ball of 2.9 litres, bright below its surface, dark below that; or a brain, which only gets brighter."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 80)] * 3, indexing="ij")
    inside = x**2 + y**2 + (z * (1 + 0.3 * (y > 0.3))) ** 2 < (0.93 - 0.002 * seed) ** 2
    depth_mm = ndimage.distance_transform_edt(inside) * 2.4
    brain = 60 + 2 * depth_mm + 10 * y
    bone = np.where(depth_mm < 15, 25.0, brain)
    head = np.where(depth_mm < 9, 110.0, bone) if has_scalp else brain
    noise = np.random.default_rng(seed).normal(0, 3, head.shape)
    return np.where(inside, np.maximum(head + noise, 1), 0).astype(np.float32)


@pytest.mark.parametrize(("fit", "edge_mm"), [("resize", 2.4), ("pad_crop", 3.5)])
def test_heads_are_named_even_where_the_whole_cohort_is_heads_and_brains_are_not(
    fresh, capsys, fit: str, edge_mm: float
) -> None:
    for number, has_scalp in ((7, True), (8, False)):
        rows = ["subject,path"]
        for index in range(3):
            write_scan(fresh.source / f"{number}{index}.nii.gz", _head(index, has_scalp=has_scalp), 2.4)
            rows.append(f"p{index},{number}{index}.nii.gz")
        table = fresh.source / "table.csv"
        table.write_text("\n".join(rows) + "\n")
        assert import_dataset.main([str(number), "X", "--table", str(table), "--unlabelled", "-np", "1"]) == 0
        voxels = str(round(192 / edge_mm))
        size = ["--input-size", *[voxels] * 3, "--spacing", *[str(edge_mm)] * 3, "--fit", fit]
        command = ["-d", str(number), "-np", "1", "--no-splits", "--brain-extraction", "none", *size]
        assert plan_and_preprocess.main(command) == 0
        capsys.readouterr()
        assert quality.main(["-d", str(number), "-np", "1", "--top", "6"]) == 0
        assert capsys.readouterr().out.count("a head among brains") == (3 if has_scalp else 0)


@pytest.mark.parametrize("edge_mm", [1.75, 3.5, 5.0])
def test_however_coarse_the_networks_grid_heads_and_brains_are_told_apart(edge_mm: float) -> None:
    settings = PreprocessingSettings(
        spacing_mm=(edge_mm,) * 3, input_size_voxels=(round(200 / edge_mm),) * 3, brain_extraction="none"
    )
    for is_one in (True, False):
        scan = Volume(volume_zyx=_head(3, has_scalp=is_one), affine=np.diag([2.4, 2.4, 2.4, 1.0]))
        prepared = prepare(scan, settings)
        properties = CaseProperties(key="", **prepared.properties)
        assert _is_head(prepared.volume_zyx.astype(np.float32), properties) == is_one


def test_a_phantom_of_the_demo_is_no_head_on_the_grid_of_the_demo() -> None:
    """With shells thinner than voxels, or next to the surface, 7 of 20 phantoms were; this one the most."""
    subject = draw_subjects(20, 1.0, 0)[8]
    phantom = make_phantom(subject.anatomy, subject.scan_seeds[0])
    scan = Volume(volume_zyx=np.ascontiguousarray(phantom.volume_xyz.T), affine=load_template().affine)
    prepared = prepare(scan, from_json(PreprocessingSettings, DEMO["preprocessing"], "the demo"))
    properties = CaseProperties(key="", **prepared.properties)
    assert not _is_head(prepared.volume_zyx.astype(np.float32), properties)


def test_a_case_without_its_volume_is_named_and_the_others_reported(toy, capsys, tmp_path) -> None:
    data = toy.preprocessed / "Dataset301_Toy" / "ADNeXtPlans_3d_fullres"
    volume = data / "sub05_M00.b2nd"
    volume.rename(tmp_path / volume.name)
    try:
        assert quality.main(["-d", "301", "-np", "1"]) == 2
    finally:
        (tmp_path / volume.name).rename(volume)
    printed = capsys.readouterr()
    assert "sub05_M00.b2nd does not exist" in printed.err and "of 16 cases" in printed.out


@pytest.mark.slow
def test_the_known_failures_of_oasis_are_among_the_most_suspicious_of_a_third_of_its_scans(real_data, fresh) -> None:
    scans = sorted((real_data / "oasis1" / "images").glob("*.nii.gz"))
    known = [path.name for path in scans if path.name.startswith(FAILURES)]
    if not known:
        pytest.skip("none of the known failures is among these scans")
    scans = [path for place, path in enumerate(scans) if place % 3 == 0 or path.name in known]
    table = fresh.source / "oasis.csv"
    rows = [f"{path.name[:9]},{path.name[10:13]},{path}" for path in scans]
    table.write_text("\n".join(["subject,session,path", *rows]) + "\n")
    assert import_dataset.main(["1", "OASIS", "--table", str(table), "--unlabelled", "-np", "2"]) == 0
    size = ["--input-size", "64", "72", "64", "--spacing", "3", "3", "3", "--no-splits"]
    assert plan_and_preprocess.main(["-d", "1", "-np", "2", *size]) == 0
    assert quality.main(["-d", "1", "-np", "2"]) == 0
    numbers = pd.read_csv(fresh.preprocessed / "Dataset001_OASIS" / "quality" / "quality.csv")
    first = {case.replace("-", "_")[:9] for case in numbers["case_id"][:10]}
    assert len({name[:9] for name in known} & first) >= 0.8 * len(known)
