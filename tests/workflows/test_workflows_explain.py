"""`adnext_explain` on a trained run: maps of held-out people by the right networks, in the scans' own space."""

import base64
import hashlib
import html
import json
import re
import shutil

import blosc2
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from adnext_plugin.cli import explain, report
from adnext_plugin.explanations.belief import with_weights_dealt_anew
from adnext_plugin.explanations.region_table import relative
from adnext_plugin.explanations.template import over_template
from adnext_plugin.files import read_json
from adnext_plugin.paths import SEED_FOLDER
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_folder import RunFolder

RUN = ["301", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]


@pytest.fixture
def truth(trained):
    """A mask of the hole in the middle of patients' brains, as a file."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in (36, 40, 38)], indexing="ij"))
    mask = ((grid**2).sum(axis=0) < 0.35**2).astype(np.uint8)
    path = trained.workspace.results / "truth.nii.gz"
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def test_everybody_held_out_is_explained_by_the_network_that_did_not_see_them(trained, truth, capsys) -> None:
    assert explain.main([*RUN, "--method", "grad_cam", "--checks", "2", "--truth", str(truth)]) == 0
    said = capsys.readouterr().out
    folder = trained.run / "explanations" / "grad_cam"
    table = pd.read_csv(folder / "maps.csv").set_index("case_id")
    splits = read_json(trained.workspace.preprocessed / "Dataset301_Toy" / "splits_final.json")
    held_out = {case: fold for fold, parts in enumerate(splits) for case in parts["val"]}
    assert table["fold"].to_dict() == held_out and len(held_out) == 17
    # the score is what the fold's own network says
    case = "sub01_M00"
    model = read_run(RunFolder(trained.run), [str(held_out[case])])
    people = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv").set_index("case_id")
    stored = trained.workspace.preprocessed / "Dataset301_Toy" / "ADNeXtPlans_3d_fullres" / f"{case}.b2nd"
    image_czyx = blosc2.open(str(stored))[:]
    outputs, _ = FoldNetwork(model, 0, "cpu")(image_czyx, people.loc[[case]])
    assert table.loc[case, "score"] == pytest.approx(outputs[1] - outputs[0], rel=1e-2, abs=1e-3)
    # maps lie voxel by voxel over the scans
    scan = nibabel.load(trained.workspace.raw / "Dataset301_Toy" / "imagesTr" / f"{case}_0000.nii.gz")
    for name in (f"{case}.nii.gz", f"{case}_mask.nii.gz"):
        written = nibabel.load(folder / name)
        assert written.shape == scan.shape
        np.testing.assert_allclose(written.affine, scan.affine, atol=1e-4)
    assert set(np.unique(nibabel.load(folder / f"{case}_mask.nii.gz").dataobj)) <= {0, 1}
    assert Image.open(folder / f"{case}.png").size == (576, 576)
    # two cases were checked, and all were compared with the truth
    assert table["all_new"].notna().sum() == 2 and table["chance"].between(0, 0.2).all()
    assert "Maps by the networks of all folds agree" in said and "Average precision above chance" in said
    assert "17 cases" in said and read_json(folder / "settings.json")["target"] == "AD"


def test_maps_are_those_of_the_method_and_the_class_that_are_asked_for(trained, capsys) -> None:
    output = trained.workspace.results / "maps"
    arguments = [*RUN, "-m", "smooth_grad", "--set", "samples=2", "--checks", "0", "--cases", "sub02_M00", "sub01_M00"]
    assert explain.main([*arguments, "-o", str(output), "--target", "CN", "--percent", "5", "--animate", "png"]) == 0
    assert Image.open(output / "sub01_M00.film.png").n_frames > 10
    table = pd.read_csv(output / "maps.csv")
    assert table["case_id"].tolist() == ["sub02_M00", "sub01_M00"] and "all_new" not in table
    np.testing.assert_allclose(table["share_of_brain"], 0.05, atol=1e-3)
    how = json.loads((output / "settings.json").read_text())
    assert how["settings"]["samples"] == 2 and how["target"] == "CN" and how["threshold"]["percent"] == 5
    # the same again is done again, anything else is not mixed with it
    before = (output / "sub01_M00.nii.gz").read_bytes()
    assert explain.main([*arguments, "-o", str(output), "--target", "CN", "--percent", "5"]) == 0
    assert (output / "sub01_M00.nii.gz").read_bytes() == before
    capsys.readouterr()
    assert explain.main([*arguments, "-o", str(output)]) == 2
    assert "holds maps that were made otherwise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "gradcam"], "no explanation 'gradcam'; did you mean 'grad_cam'"),
        (["-m", "grad_cam", "--set", "layer=encoder.stage.3"], "has no layer 'encoder.stage.3'; did you mean"),
        (["-m", "grad_cam", "--set", "layer=head"], "layer 'head' does not tell places apart"),
        (["-m", "grad_cam", "--set", "layers=3"], "unknown key 'layers'; did you mean 'layer'"),
        (["-m", "grad_cam", "--target", "MCI"], "the run knows no target 'MCI'"),
        (["-m", "grad_cam", "--cases", "sub01_M01"], "has no case 'sub01_M01'; did you mean 'sub01_M00'"),
        (["-m", "grad_cam", "--percent", "0"], "percent must be above 0"),
        (["-m", "grad_cam", "--checks", "-1"], "--checks must be 0 or more"),
        (["-m", "grad_cam", "--atlas", "a.nii.gz"], "give --atlas and --labels together"),
        (
            ["-m", "grad_cam", "--atlas", "a.nii.gz", "--labels", "a.csv"],
            "--atlas: the scans were prepared without align",
        ),
        (["-m", "grad_cam", "--mni", "aligned"], "was prepared without alignment to MNI152; give --mni register"),
        (["-m", "grad_cam", "--mni", "scans", "--atlas", "a.nii.gz", "--labels", "a.csv"], "a.csv does not exist"),
        (["-m", "grad_cam", "--set", "layer"], "--set layer: give KEY=VALUE"),
    ],
)
def test_impossible_requests_are_one_line_and_leave_nothing_behind(
    trained, capsys, arguments: list, message: str
) -> None:
    assert explain.main([*RUN, *arguments]) == 2
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not (trained.run / "explanations").exists()


def test_weights_dealt_anew_make_another_network_and_leave_the_first_alone(trained) -> None:
    model = read_run(RunFolder(trained.run), ["0"])
    people = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv").set_index("case_id")
    network = FoldNetwork(model, 0, "cpu").explained(people.iloc[[0]]).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for part, unchanged in (("head", "encoder"), ("all", None)):
        other = with_weights_dealt_anew(network, part).state_dict()
        changed = {name for name in before if not torch.equal(before[name], other[name])}
        assert any("head" in name for name in changed)
        assert any("encoder" in name for name in changed) == (unchanged is None)
        assert all(torch.equal(before[name].flatten().sort()[0], other[name].flatten().sort()[0]) for name in before)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_feature_diversity_is_measured_on_held_out_people(trained, capsys) -> None:
    assert explain.main([*RUN, "--feature-diversity"]) == 0
    said = capsys.readouterr().out
    folder = trained.run / "explanations" / "feature_diversity"
    cases, layers = pd.read_csv(folder / "cases.csv"), pd.read_csv(folder / "layers.csv")
    # three of the four stages have more than one place at 32³: 2 + 2 + 6 blocks, by channel and by token
    assert len(layers) == 2 * 10 and len(cases) == 17 * len(layers) and "over 16 people" in said
    one = layers.iloc[3]
    rows = cases[(cases["layer"] == one["layer"]) & (cases["axis"] == one["axis"])]
    of_people = rows.groupby("subject_id")["distance"].mean()
    assert one["mean"] == pytest.approx(of_people.mean()) and one["std"] == pytest.approx(of_people.std(ddof=1))
    assert layers["mean"].between(0, 1).all() and Image.open(folder / "diversity.png").width == 900
    assert explain.main(RUN) == 2
    assert "give one of --method and --feature-diversity" in capsys.readouterr().err


def test_groups_regions_and_agreement_are_summed_up_over_people(trained, tmp_path, capsys) -> None:
    output = tmp_path / "maps"
    arguments = [*RUN, "-m", "grad_cam", "--set", "positive_only=false", "--mni", "scans", "-o", str(output)]
    # the toy brains begin at the template's middle, and so do these two regions
    labels = np.zeros((40, 40, 40), dtype=np.int16)
    labels[10:20, 10:30, 10:30], labels[20:30, 10:30, 10:30] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "atlas.nii.gz")
    (tmp_path / "labels.csv").write_text("index,name\n1,Inner R\n2,Outer R\n")
    atlas = ["--atlas", str(tmp_path / "atlas.nii.gz"), "--labels", str(tmp_path / "labels.csv")]
    assert explain.main([*arguments, *atlas, "--checks", "17"]) == 0
    said = capsys.readouterr().out
    assert "Regions that hold most of the maps" in said and "Inner, right" in said
    maps, summary = pd.read_csv(output / "maps.csv"), read_json(output / "findings.json")
    assert summary["groups"] == {"all": 16, "CN": 8, "AD": 8} and summary["people"] == 16 and summary["cases"] == 17
    assert summary["mni"] == "scans" and summary["regions"] == "atlas.nii.gz"
    # one person came twice, and everybody is seen by four networks
    assert summary["agreement"]["sessions"]["people"] == 1 and summary["agreement"]["folds"]["people"] == 17
    assert set(summary["findings"]) > set(summary["failures"])
    rows = pd.read_csv(output / "regions_of_people.csv")
    assert len(rows) == 2 * 17 and rows.groupby("case_id")["share"].sum().max() <= 1
    table = pd.read_csv(output / "regions.csv").set_index(["group", "region"])
    of_people = rows[rows["region"] == "Inner"].groupby("subject_id")["share"].mean()
    assert table.loc[("all", "Inner"), "share"] == pytest.approx(of_people.mean())
    # the mean map of a class is that of its people, each person once, in units of each map's mean size
    group = nibabel.load(output / "group_AD.nii.gz")
    means = []
    for _, person in maps[maps["case_id"].str[3:5].astype(int) % 2 == 1].groupby("subject_id"):
        scan = nibabel.load(output / f"{person['case_id'].iloc[0]}.nii.gz")
        means.append(relative(over_template(scan.get_fdata().T, scan.affine, np.eye(4)).volume_zyx))
    found = np.corrcoef(np.mean(means, axis=0).ravel(), group.get_fdata().T.ravel())[0, 1]
    assert len(means) == 8 and found > 0.95
    assert Image.open(output / "group_all.png").size == (576, 576)


def test_the_report_has_a_section_and_a_volume_to_leaf_through_of_every_method(trained, capsys) -> None:
    page = trained.run / "report.html"
    assert report.main([*RUN[:3], "-o", str(page)]) == 0
    assert "<script" not in page.read_text() and "script-src" not in page.read_text()
    for method, space in (("grad_cam", "scans"), ("grad_cam_pp", "none")):
        assert (
            explain.main([*RUN, "-m", method, "--set", "layer=encoder.stages.0", "--mni", space, "--checks", "1"]) == 0
        )
    assert report.main([*RUN[:3], "-o", str(page)]) == 0
    text = page.read_text()
    sections = dict(re.findall(r'<section id="(expl[^"]*)">(.*?)</section>', text, re.DOTALL))
    assert set(sections) == {"explanations-grad-cam", "explanations-grad-cam-pp"}
    first, second = sections.values()
    # everybody and two classes, three planes each; the largest regions with a column for each class
    assert first.count('type="range"') == 9 == first.count("data:image/jpeg;base64,")
    assert "times chance, CN" in first and "those who are AD, 8 people" in first
    summary = read_json(trained.run / "explanations" / "grad_cam" / "findings.json")
    words = html.unescape(first)
    assert all(line in words for line in summary["findings"])
    assert all(f'<p class="missing">{html.escape(line)}</p>' in first for line in summary["failures"])
    assert "No mean maps and no regions" in second and "sub0" not in re.sub(r'"data:[^"]*"', "", text)
    # browsers run the one script that the page names by its hash, and no other
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in text and "default-src 'none'" in text


def test_maps_of_other_seeds_are_compared_and_need_no_evaluation(trained, tmp_path, capsys) -> None:
    other = trained.workspace.results / f"{SEED_FOLDER}7" / "Dataset301_Toy" / trained.run.name
    shutil.copytree(trained.run, other, ignore=shutil.ignore_patterns("crossval_results"))
    arguments = [
        *RUN,
        "-m",
        "smooth_grad",  # Grad-CAM of so short a run is flat, and flat maps agree with 0
        "--cases",
        "sub01_M00",
        "sub02_M00",
        "--checks",
        "2",
        "-o",
        str(tmp_path / "m"),
    ]
    assert explain.main([*arguments, "--mni", "scans"]) == 0
    # the same networks under another name
    table = pd.read_csv(tmp_path / "m" / "maps.csv")
    np.testing.assert_allclose(table["other_seeds"], 1, atol=1e-6)
    found = read_json(tmp_path / "m" / "findings.json")["agreement"]["seeds"]
    assert found["people"] == 2 and found["over_regions"]["value"] == pytest.approx(1)
    assert "Maps by the networks of all seeds agree with 1.00" in capsys.readouterr().out
    (other / "fold_0" / "validation" / "summary.json").write_text("{")
    assert explain.main([*arguments, "--mni", "none"]) == 0
    assert "Seed 7 is left out: " in capsys.readouterr().out


def test_feature_diversity_of_checkpoints_is_that_of_the_runs_own_networks(trained, tmp_path, capsys) -> None:
    assert explain.main([*RUN, "--feature-diversity", "-o", str(tmp_path / "run")]) == 0
    of_run = pd.read_csv(tmp_path / "run" / "cases.csv")
    case = of_run.loc[of_run["fold"] == 0, "case_id"].iloc[0]
    file = trained.run / "fold_0" / "checkpoint_best.pth"
    arguments = [*RUN, "--feature-diversity", "--cases", case, "--checkpoints"]
    assert explain.main([*arguments, f"adnext_t={file}", f"adnext_t={file}", "-o", str(tmp_path / "files")]) == 0
    found = pd.read_csv(tmp_path / "files" / "cases.csv")
    assert set(found["network"]) == {"adnext_t=fold_0/checkpoint_best.pth"}
    expected = of_run[of_run["case_id"] == case].set_index(["layer", "axis"])["distance"]
    own = found.drop_duplicates(["layer", "axis"]).set_index(["layer", "axis"])["distance"]
    np.testing.assert_allclose(own.loc[expected.index], expected, atol=1e-6)
    assert len(found) == 2 * len(expected) and Image.open(tmp_path / "files" / "diversity.png").width == 900
    capsys.readouterr()
    for more, message in (
        ([f"adnext_t={file}"], "say with --output where the files go"),
        (["adnext_t", "-o", str(tmp_path / "x")], "--checkpoints adnext_t: give NETWORK=FILE"),
        ([f"adnext_s={file}", "-o", str(tmp_path / "x")], "covers"),
        ([f"adnext_q={file}", "-o", str(tmp_path / "x")], "adnext_q"),
    ):
        assert explain.main([*arguments, *more]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "x").exists()
    # they belong to no run, so that none need be named
    (trained.run.parent / "ADNeXtTrainer_B__ADNeXtPlans__3d_fullres" / "fold_0").mkdir(parents=True)
    unnamed = ["301", "-device", "cpu", "--feature-diversity", "--cases", case, "--checkpoints", f"adnext_t={file}"]
    assert explain.main([*unnamed, "-o", str(tmp_path / "unnamed")]) == 0
