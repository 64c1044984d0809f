"""`adnext_benchmark_backbones` on classes of people; of segmentations see tests/cli/test_cli_segmentation_scores.py."""

import json
import math
import shutil

import pytest

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.backbones import Backbone, rank_correlation, ranked
from adnext_plugin.findings import Estimate
from adnext_plugin.workflows.backbone_arms import People, plans_name
from adnext_plugin.workflows.benchmark_backbones import Request, benchmark_backbones

NETWORKS = ("adnext_t", "resnet10")


def _backbone(network: str, score: float | None, pretrained: bool = False) -> Backbone:
    return Backbone(
        network=network,
        pretrained=pretrained,
        run="",
        parameters=1,
        step_s=1.0,
        peak_bytes=None,
        steps=1,
        trained_s=None,
        score=Estimate(value=score, low=None, high=None),
    )


def test_the_best_network_comes_first_and_orders_are_compared_over_networks_that_have_both_weights() -> None:
    random = [_backbone(name, score) for name, score in zip("abcd", (0.6, 0.7, 0.8, None), strict=True)]
    assert [one.network for one in ranked(random)] == ["c", "b", "a", "d"]
    learned = [_backbone(name, score, True) for name, score in zip("abcd", (0.75, 0.72, 0.9, 0.95), strict=True)]
    # 1 2 3 against 2 1 3
    assert rank_correlation([*random, *learned]) == pytest.approx(0.5)
    assert rank_correlation([*random, *learned[:2]]) is None
    assert rank_correlation([*random, *(_backbone(name, 0.7, True) for name in "abc")]) is None


def test_people_are_trained_in_whole_epochs_that_fit_into_the_budget(toy) -> None:
    contest = People(Request(dataset=301, networks=NETWORKS, budget_minutes=1), {"batch_size": 5}, "key")
    assert contest.shape("adnext_t").size == (32, 32, 32) and contest.shape("adnext_t").outputs == 2
    splits = json.loads((toy.preprocessed / "Dataset301_Toy" / "splits_final.json").read_text())
    of_epoch = math.ceil(max(len(fold["train"]) for fold in splits) / 5)
    arm = contest.plan("resnet10", None, 20.5 * of_epoch, {})
    assert (arm.settings["epochs"], arm.settings["warmup_epochs"], arm.steps) == (20, 0, 20 * of_epoch)
    plan = json.loads((toy.preprocessed / "Dataset301_Toy" / f"{arm.run.plans}.json").read_text())
    assert plan["configurations"]["3d_fullres"]["adnext"]["network"] == {"name": "resnet10"}
    assert plan["configurations"]["3d_fullres"]["data_identifier"] == "ADNeXtPlans_3d_fullres"
    with pytest.raises(SettingsError, match=r"lasts for 0.5 steps of resnet10, .* times as much"):
        contest.plan("resnet10", None, 0.5, {})


def test_classifiers_are_measured_compared_and_written_down(trained) -> None:
    request = Request(dataset=301, networks=NETWORKS, budget_minutes=60, device="cpu", resamples=200)
    for network in NETWORKS:
        name = f"ADNeXtTrainer__{plans_name(network, request.key, None)}__3d_fullres"
        shutil.copytree(trained.run, trained.run.parent / name)  # as if each had been trained
    told: list[str] = []
    result = benchmark_backbones(request, told.append)
    assert sum("trained already" in line for line in told) == 2
    expected = json.loads((trained.run / "crossval_results" / "metrics.json").read_text())["scores"]
    for one in result.backbones:
        assert one.score.value == pytest.approx(expected["auc_mean_of_folds"]["value"])
        assert one.step_s * one.steps <= 3600 and one.parameters > 100_000
    assert result.pairs[0].difference.value == 0 and (result.pairs[0].first, result.pairs[0].second) == NETWORKS
    written = json.loads(result.file.read_text())
    assert written["format"] == "adnext_backbones" and len(written["backbones"]) == 2
    steps = {one.network: one.steps for one in result.backbones}
    again = benchmark_backbones(request)  # a step is measured once
    assert {one.network: one.steps for one in again.backbones} == steps
