"""`adnext_evaluate`, `adnext_compare` and `adnext_report` on segmentations, from summaries as nnU-Net writes them."""

import base64
import csv
import html
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from adnext_plugin.cli import benchmark_backbones, compare, evaluate, report
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.backbone_arms import Segmentations, plans_name
from adnext_plugin.workflows.benchmark_backbones import Request

DATASET, CASES, FOLDS = "Dataset904_Cubes", 18, 3
LABELS = {"background": 0, "front": 1, "back": 2}


def _write(path: Path, volume_xyz: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume_xyz.astype(np.uint8), np.eye(4)), path)
    return path


def _truth(case: int) -> np.ndarray:
    """Two boxes in 8³ voxels, of which every sixth case has the first alone."""
    labels = np.zeros((8, 8, 8))
    labels[1:4, 1:7, 1:7] = 1
    if case % 6:
        labels[4:7, 1:7, 1:7] = 2
    return labels


class Cubes:
    """nnU-Net's folders with a dataset in three folds, in which runs can be put as training would leave them."""

    def __init__(self, folder: Path) -> None:
        self.prepared, self.raw = folder / "preprocessed" / DATASET, folder / "raw" / DATASET
        self.results = folder / "results" / DATASET
        self.splits = []
        for fold in range(FOLDS):
            val = [f"cube_{case:02d}" for case in range(CASES) if case % FOLDS == fold]
            train = [f"cube_{case:02d}" for case in range(CASES) if case % FOLDS != fold]
            self.splits.append({"train": train, "val": val})
        self.raw.mkdir(parents=True)
        for case in range(CASES):
            _write(self.prepared / "gt_segmentations" / f"cube_{case:02d}.nii.gz", _truth(case))
        self.dataset = json.dumps({"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}})
        (self.prepared / "dataset.json").write_text(self.dataset)
        (self.prepared / "splits_final.json").write_text(json.dumps(self.splits))

    def run(self, trainer: str, plans: str = "nnUNetPlans") -> Path:
        return self.results / f"{trainer}__{plans}__3d_fullres"

    def train(self, trainer: str, seed: int, missed: float, plans: str = "nnUNetPlans") -> Path:
        """What nnU-Net would leave of a network that misses about this share of voxels."""
        generator, run = np.random.default_rng(seed), self.run(trainer, plans)
        for number, fold in enumerate(self.splits):
            rows = []
            for name in fold["val"]:
                reference = self.prepared / "gt_segmentations" / f"{name}.nii.gz"
                truth = _truth(int(name[-2:]))
                seen = generator.random(truth.shape) > missed * generator.uniform(0.5, 1.5)
                prediction = _write(run / f"fold_{number}" / "validation" / f"{name}.nii.gz", truth * seen)
                rows.append(compute_metrics(str(reference), str(prediction), SimpleITKIO(), [1, 2]))
                recursive_fix_for_json_export(rows[-1])
            summary = run / f"fold_{number}" / "validation" / "summary.json"
            save_summary_json({"metric_per_case": rows, "mean": {}, "foreground_mean": {}}, str(summary))
        (run / "dataset.json").write_text(self.dataset)
        return run


@pytest.fixture
def cubes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cubes:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return Cubes(tmp_path)


def _strict(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def _dice(run: Path) -> dict[str, list[float]]:
    """Dice of the cases, from the images themselves."""
    found: dict[str, list[float]] = {}
    for path in sorted(run.glob("fold_*/validation/*.nii.gz")):
        called = np.asarray(nibabel.load(path).dataobj)
        truth = _truth(int(path.name[5:7]))
        found[path.name[:7]] = [
            2 * ((called == label) & (truth == label)).sum() / both
            if (both := (called == label).sum() + (truth == label).sum())
            else np.nan
            for label in (1, 2)
        ]
    return found


def test_a_run_is_scored_over_all_of_its_folds_and_each_case_once(cubes, capsys) -> None:
    run = cubes.train("nnUNetTrainer", 1, 0.2)
    (run / "fold_all" / "validation").mkdir(parents=True)
    (run / "fold_all" / "validation" / "summary.json").write_text("{}")
    assert evaluate.main(["904"]) == 0
    printed = capsys.readouterr().out
    assert "18 held-out cases of folds 0, 1, 2. Nothing says whose cases they are" in printed
    content, dice = _strict(run / "crossval_results" / "dice.json"), _dice(run)
    expected = np.array([dice[name] for name in sorted(dice)])
    assert (content["format"], content["format_version"], content["unit"]) == ("adnext_dice", 1, "case")
    assert [one["name"] for one in content["classes"]] == ["front", "back"]
    for index, one in enumerate(content["classes"]):
        assert one["mean"]["value"] == pytest.approx(np.nanmean(expected[:, index]), abs=1e-12)
        assert one["mean"]["low"] < one["mean"]["value"] < one["mean"]["high"]
        assert one["worst_case"]["dice"] == pytest.approx(np.nanmin(expected[:, index]), abs=1e-12)
        assert (run / one["worst_case"]["file"]).is_file() and one["worst_case"]["case_id"] in printed
    assert [one["without"] for one in content["classes"]] == [0, 3] and "3 cases have no Dice" in printed
    assert content["mean_of_classes"]["mean"]["value"] == pytest.approx(np.nanmean(expected, axis=1).mean(), abs=1e-12)
    with (run / "crossval_results" / "dice.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["mean_dice"]) for row in rows] == pytest.approx(np.nanmean(expected, axis=1).tolist(), abs=1e-12)
    assert [row["case_id"] for row in rows] == sorted(dice) and rows[0]["dice_back"] == ""
    assert [float(row["dice_front"]) for row in rows] == pytest.approx(expected[:, 0].tolist(), abs=1e-12)


def test_folds_that_are_missing_and_first_weights_are_said_and_people_are_looked_up(cubes, capsys) -> None:
    run = cubes.train("ADNeXtSegTrainer_T", 2, 0.2)
    (run / "fold_1").rename(run / "aside")
    block = {"adnext_segmentation": {"settings": {"pretrained_weights": "checkpoint_final.pth"}}}
    (run / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": block}}))
    rows = [f"cube_{case:02d},person_{case % 6}" for case in range(CASES)]
    (cubes.raw / "subjects.csv").write_text("\n".join(["case_id,subject_id", *rows]) + "\n")
    assert evaluate.main(["904", "-tr", "ADNeXtSegTrainer_T", "--resamples", "200"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("PEOPLE NOT KNOWN") and "Intervals are over subjects" in printed
    assert "12 held-out cases of folds 0, 2" in printed and "Not there yet: fold 1." in printed
    content = _strict(run / "crossval_results" / "dice.json")
    assert content["missing_folds"] == [1] and content["unit"] == "subject"
    # cases of two folds of three are of four people: too few
    assert content["classes"][0]["people"] == 4 and "fewer than 8" in content["classes"][0]["mean"]["note"]


def test_two_runs_are_compared_on_the_same_cases(cubes, tmp_path, capsys) -> None:
    first, second = cubes.train("Good", 3, 0.05), cubes.train("Poor", 4, 0.4)
    output = tmp_path / "comparison.json"
    assert compare.main(["904", "Good", second.name, "--resamples", "200", "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "18 held-out cases of folds 0, 1, 2, the same for all runs" in printed and "Good less Poor" in printed
    content = _strict(output)
    dice = [_dice(run) for run in (first, second)]
    differences = np.array([np.subtract(dice[0][name], dice[1][name]) for name in sorted(dice[0])])
    for index, one in enumerate(content["pairs"][0]["classes"][:2]):
        assert one["difference"]["value"] == pytest.approx(np.nanmean(differences[:, index]), abs=1e-12)
        assert one["difference"]["low"] > 0 and one["wilcoxon_p"] < 0.01
    assert [one["left_out"] for one in content["pairs"][0]["classes"]] == [0, 3, 0]


def _figure(page: str, key: str) -> str:
    found = re.search(rf'<figure id="figure-{key}".*?base64,([^"]+)"', page, re.S)
    assert found is not None, key
    return base64.b64decode(found[1]).decode()


def test_the_report_shows_the_best_the_median_and_the_worst_case_and_names_none(cubes, tmp_path, capsys) -> None:
    run, comparison = cubes.train("Good", 3, 0.05), tmp_path / "comparison.json"
    cubes.train("Poor", 4, 0.4)
    block = {"settings": {"pretrained_weights": "/home/me/checkpoint_final.pth", "epochs": 7}}
    (run / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": {"adnext_segmentation": block}}}))
    generator = np.random.default_rng(0)
    for case in range(CASES):
        image = nibabel.Nifti1Image(generator.normal(_truth(case), 0.2), np.diag([1, 1, 2, 1]))
        path = cubes.raw / "imagesTr" / f"cube_{case:02d}_0000.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(image, path)
    assert evaluate.main(["904", "-tr", "Good"]) == 0
    assert compare.main(["904", "Good", "Poor", "--resamples", "200", "-o", str(comparison)]) == 0
    assert report.main(["904", "-tr", "Good", "--comparison", str(comparison)]) == 0
    page = html.unescape((run / "crossval_results" / "report.html").read_text())
    content = _strict(run / "crossval_results" / "dice.json")
    for one in (*content["classes"], content["mean_of_classes"]):
        assert f"{one['mean']['value']:.3f} ({one['mean']['low']:.3f} to {one['mean']['high']:.3f})" in page
    dice = _dice(run)
    for place in ("best", "median", "worst"):
        case = content["mean_of_classes"][f"{place}_case"]["case_id"]
        numbers = ["–" if np.isnan(value) else f"{value:.3f}" for value in dice[case]]
        fold = int(case[-2:]) % FOLDS
        assert (
            f"The {place} case by Dice, mean of classes, of fold {fold}: front {numbers[0]}, back {numbers[1]}." in page
        )
        drawn = _figure(page, f"case-{place}")
        assert drawn.count("<image") == 3 and "stroke-dasharray" in drawn
    difference = _strict(comparison)["pairs"][0]["classes"][2]["difference"]
    assert f"{difference['value']:.3f} ({difference['low']:.3f} to" in page and "Good – Poor" in page
    assert "cube_" not in page and "/home/me" not in page and "checkpoint_final.pth" in page
    assert "PEOPLE NOT KNOWN" in page


def test_a_case_whose_image_is_gone_is_said_and_what_is_no_comparison_is_refused(cubes, tmp_path, capsys) -> None:
    run = cubes.train("A", 1, 0.2)
    assert report.main(["904", "-tr", "A"]) == 2
    assert "evaluate the run first" in capsys.readouterr().err
    assert evaluate.main(["904", "-tr", "A", "--resamples", "100"]) == 0
    assert report.main(["904", "-tr", "A", "-o", str(tmp_path / "page.html")]) == 0
    page = html.unescape((tmp_path / "page.html").read_text())
    assert page.count("case cannot be shown: its image, ground truth or prediction is gone.") == 3
    assert str(tmp_path) not in page
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"pairs": [{"tests": {}}], "warnings": []}))
    capsys.readouterr()
    assert report.main(["904", "-tr", "A", "--comparison", str(other)]) == 2
    assert "other.json compares no segmentations" in capsys.readouterr().err
    assert not (run / "crossval_results" / "report.html").exists()


def test_segmenting_networks_are_ranked_by_dice_and_equal_steps_are_those_of_the_slowest(cubes, capsys) -> None:
    planned = {"patch_size": [20, 20, 20], "batch_size": 1, "data_identifier": "nnUNetPlans_3d_fullres"}
    plans = {"plans_name": "nnUNetPlans", "dataset_name": DATASET, "configurations": {"3d_fullres": planned}}
    (cubes.prepared / "nnUNetPlans.json").write_text(json.dumps(plans))
    networks, weights = {"unet_b": "UNetB", "mednext_m_k3": "MedNeXtM"}, cubes.raw / "unet_b.pth"
    request = Request(
        dataset=904, networks=tuple(networks), budget_minutes=60, equal="steps", pretrained={"unet_b": str(weights)}
    )
    for (network, trainer), missed in zip((*networks.items(), ("unet_b", "UNetB")), (0.4, 0.2, 0.05), strict=True):
        first = str(weights) if missed == 0.05 else None
        run = cubes.train(f"ADNeXtSeg{trainer}Trainer", 5, missed, plans_name(network, request.key, first))
        for fold in run.glob("fold_*"):
            (fold / "checkpoint_final.pth").touch()  # as if it were trained
    weights.touch()
    command = ["904", "--networks", ",".join(networks), "--budget", "60", "--equal", "steps"]
    assert benchmark_backbones.main([*command, "--pretrained", f"unet_b={weights}"]) == 0
    printed = capsys.readouterr().out
    assert "fold 0 is finished already" in printed and "for which three networks are needed" in printed
    content = _strict(cubes.results / "backbones.json")
    order = [(one["network"], one["pretrained"]) for one in content["backbones"]]
    assert order == [("unet_b", True), ("mednext_m_k3", False), ("unet_b", False)]
    for one in content["backbones"]:
        dice = np.array(list(_dice(cubes.results / one["run"]).values()))
        assert one["score"]["value"] == pytest.approx(np.nanmean(dice, axis=1).mean(), abs=1e-12)
    slowest = max(one["step_s"] for one in content["backbones"])
    assert {one["steps"] for one in content["backbones"]} == {int(3600 / slowest / 10) * 10}
    assert [one["parameters"] for one in content["backbones"]] == [22_581_283, 20_938_051, 22_581_283]
    pair = next(pair for pair in content["pairs"] if pair["second"] == "unet_b, pre-trained")
    assert pair["first"] == "unet_b" and pair["difference"]["high"] < 0 and pair["p_holm"] < 0.01
    plan = _strict(cubes.prepared / f"{plans_name('unet_b', request.key, None)}.json")
    planned = plan["configurations"]["3d_fullres"]
    assert planned["adnext_segmentation"]["settings"]["steps_per_epoch"] == content["backbones"][0]["steps"] // 10


def test_backbones_that_cannot_be_compared_are_refused_in_one_line(cubes, capsys) -> None:
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"patch_size": [20] * 3, "batch_size": 1}}}
    (cubes.prepared / "nnUNetPlans.json").write_text(json.dumps(plans))
    two = ["904", "--networks", "unet_b,mednext_m_k3", "--budget", "1"]
    for arguments, message in (
        (["904", "--networks", "unet_b", "--budget", "1"], "at least two different networks, got unet_b"),
        (["904", "--networks", "unet_b,unet_b", "--budget", "1"], "at least two different networks"),
        (["904", "--networks", "unet_b,unet_c", "--budget", "1"], "did you mean 'unet_b'"),
        (["904", "--networks", "unet_b,resnet10", "--budget", "1"], "resnet10 has no trainer of segmentation"),
        ([*two[:-1], "0"], "--budget must be positive"),
        ([*two, "--set", "epochs=3"], "--set epochs: the benchmark decides that itself"),
        ([*two, "--pretrained", "adnext_t=x.pth"], "'adnext_t', which is none of --networks"),
        ([*two, "--pretrained", "unet_b"], "write NETWORK=FILE"),
    ):
        assert benchmark_backbones.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line


def test_a_budget_shorter_than_a_step_is_refused(cubes) -> None:
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"patch_size": [20] * 3, "batch_size": 1}}}
    (cubes.prepared / "nnUNetPlans.json").write_text(json.dumps(plans))
    request = Request(dataset=904, networks=("unet_b", "mednext_m_k3"), budget_minutes=1)
    contest = Segmentations(request, {}, "key")
    with pytest.raises(SettingsError, match=r"a single step of unet_b; give at least 2\.5 times as much"):
        contest.plan("unet_b", None, 0.4, {})
    assert contest.plan("unet_b", None, 1.0, {}).steps == 1


def _edited(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content["metric_per_case"])
    path.write_text(json.dumps(content))


def test_what_cannot_be_scored_or_compared_is_one_line(cubes, capsys) -> None:
    runs = {name: cubes.train(name, seed, 0.2) for seed, name in enumerate(("A", "Lacks", "Truth", "Twice", "Other"))}
    summaries = {name: run / "fold_0" / "validation" / "summary.json" for name, run in runs.items()}
    _edited(summaries["Lacks"], lambda cases: cases.pop(2))
    _edited(summaries["Truth"], lambda cases: cases[1]["metrics"]["2"].update(FN=999))
    _edited(summaries["Other"], lambda cases: cases[0]["metrics"].pop("1"))
    fold_1 = runs["Twice"] / "fold_1" / "validation" / "summary.json"
    again = json.loads(summaries["Twice"].read_text())["metric_per_case"][0]
    _edited(fold_1, lambda cases: cases.append(again))
    (cubes.run("Bare") / "fold_0").mkdir(parents=True)
    (cubes.run("Bare") / "dataset.json").write_text(cubes.dataset)
    capsys.readouterr()
    for command, arguments, message in (
        (compare, ["904", "A"], "needs at least two runs"),
        (compare, ["904", "A", "A"], "is named twice"),
        (compare, ["904", "A", "Lack"], "did you mean 'Lacks__nnUNetPlans__3d_fullres'"),
        (compare, ["904", "A", "Lacks"], "lacks cube_06, which fold 0 holds out"),
        (compare, ["904", "A", "Truth"], "other ground truths of cube_03, by the voxels of back"),
        (evaluate, ["904", "-tr", "Twice"], "cube_00 was held out by fold 0 and by fold 1"),
        (evaluate, ["904", "-tr", "Other"], "case 1: it has the classes 2, and dataset.json has 1, 2"),
        (evaluate, ["904", "-tr", "Bare"], "has a validation/summary.json"),
        (evaluate, ["904", "-tr", "None"], "train first, or check -tr"),
        (evaluate, ["904"], "say which with -tr"),
        (evaluate, ["904", "-tr", "A", "--probe", "site"], "--probe is for labels of people"),
        (evaluate, ["904", "-tr", "A", "--external", "905"], "--external is for labels of people"),
        (evaluate, ["904", "-tr", "A", "--resamples", "9"], "at least 100"),
    ):
        assert command.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line
    (cubes.raw / "subjects.csv").write_text("case_id,subject_id\ncube_00,x\n")
    assert evaluate.main(["904", "-tr", "A"]) == 2
    assert "does not say whose the case 'cube_01' is" in capsys.readouterr().err
    (cubes.raw / "subjects.csv").unlink()
    summaries["A"].write_text(json.dumps({"trainer": "A"}))
    assert evaluate.main(["904", "-tr", "A"]) == 2
    assert "is no summary of segmentations by nnU-Net" in capsys.readouterr().err
    (cubes.prepared / "splits_final.json").write_text("{}")
    summaries["A"].unlink()
    assert evaluate.main(["904", "-tr", "A"]) == 2
    assert "is no list of folds" in capsys.readouterr().err


def test_python_programs_score_and_compare_segmentations(cubes) -> None:
    import adnext_plugin as adnext

    run = cubes.train("Good", 3, 0.05)
    results = adnext.evaluate_segmentation(904)  # the only trainer that there is
    dice = _dice(run)
    assert results.dice.index.tolist() == ["front", "back", "mean of classes"]
    expected = np.array([dice[name] for name in sorted(dice)])
    assert results.dice["value"].to_numpy()[:2] == pytest.approx(np.nanmean(expected, axis=0), abs=1e-12)
    assert results.dice.loc["back", ["cases", "without"]].tolist() == [15, 3]
    np.testing.assert_allclose(results.cases[["dice_front", "dice_back"]], expected, atol=1e-12)
    assert results.evaluation.dice_file.is_file() and "Dice, mean of classes: 0.9" in repr(results)
    cubes.train("Poor", 4, 0.4)
    pair = adnext.compare_segmentations(904, ["Good", "Poor"], resamples=200).pairs[0]
    assert (pair.first, pair.second) == ("Good", "Poor") and pair.classes[0].difference.low > 0
    with pytest.raises(adnext.AdnextError, match=r"evaluate_segmentation"):
        adnext.evaluate(904, trainer="Good")
    with pytest.raises(adnext.AdnextError, match=r"compare_segmentations"):
        adnext.compare(904, ["Good", "Poor"])
