"""The phantom cohort: the disease has the size it says, and without it patients are controls."""

import json
import socket

import nibabel
import numpy as np
import pandas as pd
import pytest

from adnext_plugin.cli import demo
from adnext_plugin.demo.phantom import Anatomy, changed_by_disease, load_template, make_phantom
from adnext_plugin.demo.phantom_cohort import draw_subjects, write_cohort


def _phantom(**changes: float):
    anatomy = {"ventricle_growth": 0.0, "temporal_loss": 0.0, "scale": 1.0, "shape_seed": 1, **changes}
    return make_phantom(Anatomy(**anatomy), scan_seed=2)


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    def refuse(*_arguments, **_options):
        raise AssertionError("the demo must not use the network")

    monkeypatch.setattr(socket, "create_connection", refuse)


def test_ventricles_grow_and_the_temporal_lobe_shrinks_by_what_the_deformation_says() -> None:
    healthy = _phantom()
    # at the centre of a region a linear change of 10 % is 33 % or -27 % of volume; towards its rim less
    grown = _phantom(ventricle_growth=0.1)
    assert 1.10 < grown.ventricles_ml / healthy.ventricles_ml < 1.1**3
    assert grown.medial_temporal_ml == pytest.approx(healthy.medial_temporal_ml, rel=0.05)
    shrunk = _phantom(temporal_loss=0.1)
    assert 0.9**3 < shrunk.medial_temporal_ml / healthy.medial_temporal_ml < 0.90
    assert shrunk.ventricles_ml == pytest.approx(healthy.ventricles_ml, rel=0.05)
    larger = _phantom(scale=1.1)
    assert larger.ventricles_ml / healthy.ventricles_ml == pytest.approx(1.1**3, rel=0.05)


def test_an_undeformed_region_has_the_volume_of_the_template() -> None:
    template = load_template()
    voxels = [_phantom(shape_seed=seed).ventricles_ml for seed in range(3)]
    assert np.mean(voxels) == pytest.approx(template.ventricles_xyz.sum() * 0.008, rel=0.1)
    assert 10 < template.ventricles_xyz.sum() * 0.008 < 30


def test_scans_are_brain_extracted_and_repeatable() -> None:
    one, same = _phantom(), _phantom()
    np.testing.assert_array_equal(one.volume_xyz, same.volume_xyz)
    other_scan = make_phantom(Anatomy(ventricle_growth=0, temporal_loss=0, scale=1, shape_seed=1), scan_seed=3)
    assert other_scan.ventricles_ml == one.ventricles_ml
    assert not np.array_equal(other_scan.volume_xyz, one.volume_xyz)
    brain_ml = (one.volume_xyz > 0).sum() * 0.008
    assert 1200 < brain_ml < 2200
    assert one.volume_xyz.min() == 0


def test_without_effect_the_label_changes_nothing() -> None:
    with_disease, without = draw_subjects(20, 1.0, seed=4), draw_subjects(20, 0.0, seed=4)
    for ill, well in zip(with_disease, without, strict=True):
        assert (ill.subject_id, ill.age, ill.sex, ill.scan_seeds) == (
            well.subject_id,
            well.age,
            well.sex,
            well.scan_seeds,
        )
        assert (ill.anatomy == well.anatomy) == (not ill.is_patient)
    growth = {
        sick: np.mean([s.anatomy.ventricle_growth for s in draw_subjects(2000, 0.0, seed=0) if s.is_patient == sick])
        for sick in (True, False)
    }
    assert growth[True] == pytest.approx(growth[False], abs=0.01)


def test_the_cohort_is_a_bids_tree_with_the_truth_beside_it(tmp_path) -> None:
    subjects = draw_subjects(6, 1.0, seed=0)
    truths = write_cohort(subjects, tmp_path, processes=1)
    people = pd.read_csv(tmp_path / "bids" / "participants.tsv", sep="\t")
    assert people["participant_id"].tolist() == [f"sub-{index:03d}" for index in range(6)]
    assert people["group"].tolist() == ["control", "patient"] * 3
    scans = sorted(path.relative_to(tmp_path / "bids").as_posix() for path in (tmp_path / "bids").rglob("*.nii.gz"))
    assert len(scans) == 8  # every fifth person comes twice
    assert scans[1] == "sub-000/ses-02/anat/sub-000_ses-02_T1w.nii.gz"
    assert json.loads((tmp_path / "bids" / "dataset_description.json").read_text())["BIDSVersion"]
    assert pd.read_csv(tmp_path / "truth.csv")["ventricles_ml"].tolist() == [truth.ventricles_ml for truth in truths]
    # the rims of the ventricles and the medial temporal lobes, alike on both sides
    regions = nibabel.load(tmp_path / "true_regions.nii.gz")
    places_mm = nibabel.affines.apply_affine(regions.affine, np.argwhere(np.asarray(regions.dataobj)))
    assert 0.01 < len(places_mm) / load_template().brain_xyz.sum() < 0.05
    assert 0.4 < (places_mm[:, 0] < 0).mean() < 0.6 and 0.15 < (places_mm[:, 2] < -5).mean() < 0.35
    assert not changed_by_disease(0, 0).any()


def test_the_demo_command_runs_everything_and_prints_truth_and_result(tmp_path, capsys, monkeypatch) -> None:
    output = tmp_path / "demo"
    arguments = ["--output", str(output), "--subjects", "16", "--fast"]
    assert demo.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Cohen's d" in printed and "The network reached AUC" in printed and "FAST: trained in miniature" in printed
    assert "-d 999 --preset" in printed and "--set epochs=3 --seed 0 --fast" in printed
    results = output / "nnUNet_results" / "fast" / "Dataset999_Demo" / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    assert (results / "crossval_results" / "roc.png").is_file()
    assert f'export nnUNet_results="{output / "nnUNet_results" / "fast"}"' in printed
    assert [path.name for path in (output / "nnUNet_results").iterdir()] == ["fast"]
    assert demo.main(["--output", str(output), "--subjects", "20", "--epochs", "3"]) == 2
    assert "holds a demo with other settings" in capsys.readouterr().err
