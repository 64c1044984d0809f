"""Settings, schedules, weights and checkpoints of a run."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score
from torch import nn

from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.plan import NetworkSettings, plans_with
from adnext_plugin.records import to_json
from adnext_plugin.settings import LinearSettings, TrainerSettings
from adnext_plugin.task import Task
from adnext_plugin.training.batch_norm import settle_batch_norms
from adnext_plugin.training.checkpoints import set_earlier_run_aside, write_checkpoint
from adnext_plugin.training.covariates import CovariateScale
from adnext_plugin.training.logger import RunLogger
from adnext_plugin.training.plan_resolution import layered, resolve_plan, settings_for_resume
from adnext_plugin.training.schedule import EpochSchedule, learning_rate_at
from adnext_plugin.training.task_kinds import Classification, Regression
from adnext_plugin.training.weights import load_encoder, read_checkpoint

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
THREE = Task(name="Stage", target="stage", classes=("CN", "MCI", "AD"))
DATASET_JSON = {"adnext": to_json(TASK)}


def _plans(**adnext) -> dict:
    configuration = {"patch_size": [128, 128, 128], "adnext": adnext}
    return {"plans_name": "ADNeXtPlans", "configurations": {"3d_fullres": configuration}}


def test_the_cosine_is_torchs_own() -> None:
    settings = TrainerSettings(epochs=7, learning_rate=0.3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=9.0)
    for epoch in range(7):
        EpochSchedule(ours, settings).step(epoch)
        assert math.isclose(ours.param_groups[0]["lr"], torchs.get_last_lr()[0], rel_tol=1e-12)
        optimizer.step()
        torchs.step()


def test_the_warm_up_rises_to_the_peak_and_a_constant_stays() -> None:
    settings = TrainerSettings(epochs=10, warmup_epochs=4, learning_rate=1.0, schedule="constant")
    rates = [learning_rate_at(epoch, settings) for epoch in range(10)]
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, *[1.0] * 6])


@pytest.mark.parametrize(
    ("asked", "warmup"),
    [
        ({"epochs": 6}, 1),  # as much of them as of 40
        ({"epochs": 10}, 2),
        ({"epochs": 11}, 10),  # it fits
        ({"epochs": 1}, 0),
        ({"epochs": 12, "warmup_epochs": 3}, 3),
    ],
)
def test_a_warm_up_that_does_not_fit_into_few_epochs_takes_its_share_of_them(asked: dict, warmup: int) -> None:
    of_many = TrainerSettings(epochs=40, warmup_epochs=10)
    assert layered(of_many, (asked, "--set")).warmup_epochs == warmup
    with pytest.raises(SettingsError, match=r"warmup_epochs must be below epochs \(3\)"):
        layered(of_many, ({"epochs": 3, "warmup_epochs": 3}, "--set"))


@pytest.mark.parametrize(
    ("usual", "asked", "epochs"),
    [
        (TrainerSettings(), {"fast": True}, 2),
        (TrainerSettings(epochs=20, warmup_epochs=2), {"fast": True}, 2),
        (TrainerSettings(), {"fast": True, "epochs": 5}, 5),
        (TrainerSettings(), {"fast": False}, 150),
        (TrainerSettings(epochs=1), {"fast": True}, 1),
        (LinearSettings(), {"fast": True}, 1),
    ],
)
def test_a_rehearsal_has_few_epochs_unless_others_are_asked_for(usual, asked: dict, epochs: int) -> None:
    settings = layered(usual, (asked, "--set"))
    assert settings.epochs == epochs
    assert any(stamp.startswith("FAST") for stamp in settings.warnings) == asked["fast"]


def test_the_figure_of_progress_counts_epochs_from_1_and_calls_nothing_held_out_that_is_not(
    tmp_path, monkeypatch
) -> None:
    drawn = []
    print_png = FigureCanvasAgg.print_png
    monkeypatch.setattr(
        FigureCanvasAgg, "print_png", lambda canvas, path: (drawn.append(canvas.figure), print_png(canvas, path))
    )
    log = RunLogger({"auc": "AUC"}, "selection")
    for epoch in (0, 1):
        for key in ("train_losses", "val_losses", "val_auc", "lrs"):
            log.log(key, 0.5, epoch)
    log.plot_progress_png(str(tmp_path))
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    named = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert named == [["training", "selection"], ["AUC, selection"], ["learning rate"]]
    assert all(line.get_xdata().tolist() == [1, 2] for axes in figure.axes for line in axes.get_lines())


def test_by_steps_warm_up_and_cosine_are_torchs_own_stepped_after_each_batch() -> None:
    settings = TrainerSettings(epochs=7, warmup_epochs=2, learning_rate=0.3, schedule_unit="step")
    steps = 5
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    warming = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 1000, total_iters=2 * steps)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5 * steps)
    torchs = torch.optim.lr_scheduler.SequentialLR(optimizer, [warming, falling], [2 * steps])
    ours, by_epochs = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=9.0) for _ in range(2))
    for epoch in range(7):
        EpochSchedule(ours, settings).step(epoch)
        EpochSchedule(by_epochs, replace(settings, schedule_unit="epoch")).step(epoch)
        at_first = by_epochs.param_groups[0]["lr"]
        for step in range(steps):
            EpochSchedule(ours, settings).before_step(epoch, step, steps)
            assert math.isclose(ours.param_groups[0]["lr"], torchs.get_last_lr()[0], rel_tol=1e-9)
            EpochSchedule(by_epochs, replace(settings, schedule_unit="epoch")).before_step(epoch, step, steps)
            assert by_epochs.param_groups[0]["lr"] == at_first
            optimizer.step()
            torchs.step()


def test_the_polynomial_is_nnunets() -> None:
    settings = TrainerSettings(epochs=8, learning_rate=0.3, schedule="poly")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = PolyLRScheduler(optimizer, initial_lr=0.3, max_steps=8)
    for epoch in range(8):
        theirs.step(epoch)
        assert math.isclose(learning_rate_at(epoch, settings), optimizer.param_groups[0]["lr"], rel_tol=1e-12)


def _resolve(plans, dataset_json, network, settings, configuration="3d_fullres"):
    return resolve_plan(plans, configuration, dataset_json, network, partial(layered, settings), "training")


def test_command_line_beats_plans_beats_class(monkeypatch) -> None:
    plans = _plans(training={"epochs": 20, "batch_size": 2}, network={"options": {"kernel_size": 5}})
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 3}))
    own = NetworkSettings(name="adnext_t", options={"downsampling": "max"})
    plan, settings = _resolve(plans, DATASET_JSON, own, TrainerSettings(seed=7))
    assert (settings.epochs, settings.batch_size, settings.seed) == (3, 2, 7)
    assert plan.network == NetworkSettings(name="adnext_t", options={"downsampling": "max", "kernel_size": 5})
    # a model is built again from the plans alone, so everything must survive the way through JSON
    saved = json.loads(json.dumps(plans_with(plans, "3d_fullres", plan)))
    monkeypatch.delenv("ADNEXT_SETTINGS")
    assert _resolve(saved, {}, own, TrainerSettings()) == (plan, settings)


@pytest.mark.parametrize(
    ("adnext", "own", "message"),
    [
        ({"trainning": {}}, None, "did you mean 'training'"),
        ({"training": {"learning_rat": 1}}, None, "did you mean 'learning_rate'"),
        ({"training": {"epochs": "many"}}, None, "epochs = 'many'"),
        ({"network": {"name": "resnet34"}}, NetworkSettings(name="adnext_t"), "use -tr ADNeXtTrainer"),
    ],
)
def test_impossible_plans_are_refused(adnext: dict, own: NetworkSettings | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        _resolve(_plans(**adnext), DATASET_JSON, own, TrainerSettings())


def test_plans_of_nnunet_itself_get_our_defaults_and_2d_is_refused() -> None:
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"patch_size": [128, 160, 112]}}}
    plan, _ = _resolve(plans, DATASET_JSON, None, TrainerSettings())
    assert (plan.prepared_by, plan.network.name, plan.task) == ("nnunet", "adnext_b", TASK)
    plans["configurations"]["2d"] = {"patch_size": [128, 160]}
    with pytest.raises(SettingsError, match="not 3D"):
        _resolve(plans, DATASET_JSON, None, TrainerSettings(), "2d")
    with pytest.raises(SettingsError, match="adnext_import"):
        _resolve(plans, {}, None, TrainerSettings())


def test_a_resumed_run_may_get_longer_but_not_become_another(monkeypatch) -> None:
    saved = TrainerSettings(epochs=5, learning_rate=1e-3)
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 9, "learning_rate": 1e-3}))
    assert settings_for_resume(saved, "x", 0).epochs == 9
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"seed": 1}))
    with pytest.raises(SettingsError, match="seed=42 and cannot continue with seed=1"):
        settings_for_resume(saved, "x", 0)


class _Network(nn.Module):
    key_to_encoder = "encoder"

    def __init__(self, width: int = 4, classes: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, width, 3), nn.Conv3d(width, width, 3))
        self.head = nn.Linear(width, classes)


def test_an_encoder_is_taken_over_whole_and_every_other_tensor_reported(tmp_path) -> None:
    source, target = _Network(classes=3), _Network()
    weights = {**source.state_dict(), "decoder.weight": torch.ones(1)}
    torch.save({"network_weights": weights}, tmp_path / "source.pth")
    head_before = target.head.weight.clone()
    report = load_encoder(target, tmp_path / "source.pth")
    assert (len(report.matched), report.new, len(report.dropped)) == (4, ("head.weight", "head.bias"), 3)
    assert torch.equal(target.encoder[1].weight, source.encoder[1].weight)
    assert torch.equal(target.head.weight, head_before)


def test_weights_of_another_size_or_partial_ones_change_nothing(tmp_path) -> None:
    torch.save({"network_weights": _Network(width=8).state_dict()}, tmp_path / "wide.pth")
    partial = {name: tensor for name, tensor in _Network().state_dict().items() if not name.startswith("encoder.1")}
    torch.save({"network_weights": partial}, tmp_path / "partial.pth")
    target = _Network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(WeightsError, match=r"encoder.0.weight \(4, 1, 3, 3, 3\) has shape \(8, 1, 3, 3, 3\) there"):
        load_encoder(target, tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"covers 2 of 4 encoder tensors; encoder.1.weight .* is not there"):
        load_encoder(target, tmp_path / "partial.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


class _RunsCode:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", _RunsCode(), {"state_dict": {}}])
def test_files_that_are_no_checkpoints_are_refused_without_running_code(tmp_path, capsys, content) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=r"x\.pth"):
        read_checkpoint(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(small_disk) -> None:
    write_checkpoint({"network_weights": torch.zeros(1000)}, small_disk / "latest.pth")
    with pytest.raises(PathsError, match=r"no space left .*latest.pth"):
        write_checkpoint({"network_weights": torch.zeros(1_000_000)}, small_disk / "latest.pth")
    assert read_checkpoint(small_disk / "latest.pth")["network_weights"].shape == (1000,)
    assert [path.name for path in small_disk.iterdir()] == ["latest.pth"]


def test_an_earlier_run_is_set_aside_not_lost(tmp_path) -> None:
    (tmp_path / "checkpoint_final.pth").write_text("final")
    (tmp_path / "validation").mkdir()
    (tmp_path / "training_log_1.txt").write_text("log")
    aside = set_earlier_run_aside(tmp_path)
    assert sorted(path.name for path in aside.iterdir()) == ["checkpoint_final.pth", "validation"]
    assert not (tmp_path / "checkpoint_final.pth").exists()
    assert set_earlier_run_aside(tmp_path) is None


def test_scores_agree_with_scikit_learn_whatever_the_order_of_the_outputs() -> None:
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(size=(30, 3)), np.arange(30) % 3
    order = generator.permutation(30)
    outputs = [
        {"indices": torch.tensor(part), "outputs": torch.tensor(logits[part])} for part in np.array_split(order, 4)
    ]
    kind = Classification(THREE, targets)
    predictions = kind.predictions([f"c{index}" for index in range(30)], outputs, targets)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.array_equal(predictions.logits, logits)
    assert math.isclose(predictions.loss, log_loss(targets, probabilities))
    assert math.isclose(predictions.auc, roc_auc_score(targets, probabilities, multi_class="ovr"))
    alone = kind.predictions(["a"], [{"indices": torch.tensor([0]), "outputs": torch.zeros(1, 3)}], np.array([1]))
    assert math.isnan(alone.auc)


def test_a_regression_is_trained_in_standard_deviations_and_predicted_in_years() -> None:
    ages = np.array([20.0, 60.0, 70.0, 90.0])
    kind = Regression(Task(name="Age", kind="regression", target="age"), ages)
    outputs = torch.tensor([[0.0], [1.0], [-1.0], [2.0]])
    predictions = kind.predictions("abcd", [{"indices": torch.arange(4), "outputs": outputs}], ages)
    assert np.allclose(predictions.values, ages.mean() + ages.std() * outputs[:, 0].numpy())
    scores = predictions.summary()
    assert math.isclose(scores["mae"], mean_absolute_error(ages, predictions.values))
    loss = kind.loss(TrainerSettings())(outputs, torch.tensor(ages))
    assert math.isclose(loss.item(), scores["loss"], rel_tol=1e-6)
    assert kind.rank({"mae": 3.0}, "honest") > kind.rank({"mae": 4.0}, "honest")
    assert kind.notes()["target_scale"] == {"mean": 60.0, "standard_deviation": ages.std()}


def test_covariates_are_measured_on_the_training_cases_and_unknown_ones_are_their_mean() -> None:
    training = pd.DataFrame({"age": [50.0, 70.0, np.nan], "sex": ["F", "M", ""], "site": ["a", "b", "c"]})
    scale = CovariateScale.of(training, ("age", "sex"), TASK)
    rows = pd.DataFrame({"age": [80.0, np.nan], "sex": ["M", ""]})
    assert scale.apply(rows).tolist() == [[2.0, 1.0], [0.0, 0.0]]
    for names, message in (
        (("weight",), "no column 'weight'"),
        (("site",), "no training case has a number"),
        (("diagnosis",), "gives the target"),
    ):
        with pytest.raises(SettingsError, match=message):
            CovariateScale.of(training.assign(diagnosis="AD"), names, TASK)


def test_the_covariate_head_is_what_concatenating_to_a_linear_head_gives() -> None:
    encoder, head = torch.nn.Flatten(), torch.nn.Linear(8, 3)
    network = WithCovariates(torch.nn.Sequential(encoder, head), covariates=2, num_outputs=3)
    torch.nn.init.normal_(network.covariate_head.weight)
    images, covariates = torch.randn(4, 1, 2, 2, 2), torch.randn(4, 2)
    joint = torch.cat([head.weight, network.covariate_head.weight], dim=1)
    expected = torch.cat([encoder(images), covariates], dim=1) @ joint.T + head.bias
    assert torch.allclose(network(images, covariates), expected, atol=1e-6)


def test_settled_batch_norms_hold_the_statistics_of_the_cases_under_the_weights_there_are_now() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    cases = torch.randn(4, 8, 3) + 100  # four batches of cases that differ little beside what they share
    features = network[0](cases.flatten(0, 1)).detach()
    network.train()
    network(cases[0])
    settle_batch_norms(network, network, cases)
    assert not any(module.training for module in network.modules())
    torch.testing.assert_close(network[1].running_mean, features.mean(dim=0))
    variance = torch.stack([network[0](batch).var(dim=0) for batch in cases]).mean(dim=0)
    torch.testing.assert_close(network[1].running_var, variance.detach(), rtol=1e-3, atol=1e-5)
    assert network[1].momentum == 0.1 and network[1].num_batches_tracked == len(cases)
