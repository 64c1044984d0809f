"""What a network is built and trained with: swapped ends that change no shape and stop no run."""

import numpy as np
import pytest
import torch
from torchvision.ops import StochasticDepth

from adnext_plugin.networks.families.adnext import adnext_s, build
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.task import Task
from adnext_plugin.training.layer_rates import parameter_groups
from adnext_plugin.training.predictions import ClassPredictions, ValuePredictions, in_order
from adnext_plugin.training.schedule import RATE_SHARE
from adnext_plugin.training.task_kinds import TASK_KINDS

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
AGE = Task(name="Age", kind="regression", target="age", derived_from=("age",))


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_branches_are_dropped_the_more_often_the_deeper_they_lie(rate: float) -> None:
    with torch.device("meta"):
        network = adnext_s(1, 2, (32, 32, 32), drop_path_rate=rate)
    found = [module.p for module in network.encoder.stages.modules() if isinstance(module, StochasticDepth)]
    assert found == pytest.approx(np.linspace(0, rate, 18).tolist())


def test_the_rarer_class_weighs_more_and_all_classes_the_same() -> None:
    targets = np.repeat([0, 1], [30, 10])
    loss = TASK_KINDS["classification"](TASK, targets).loss(TrainerSettings(class_weights="inverse_frequency"))
    assert loss.weight.tolist() == pytest.approx([0.5, 1.5])
    as_published = TASK_KINDS["classification"](TASK, targets).loss(TrainerSettings(class_weights="counts"))
    assert as_published.weight.tolist() == pytest.approx([1.5, 0.5])


def test_the_better_epoch_has_the_larger_area_then_the_smaller_loss() -> None:
    rank = TASK_KINDS["classification"](TASK, np.arange(4) % 2).rank
    scores = {"auc": 0.7, "accuracy": 0.6, "loss": 0.5}
    assert rank({**scores, "auc": 0.8, "loss": 0.9}, "honest") > rank(scores, "honest")
    assert rank({**scores, "loss": 0.4}, "honest") > rank(scores, "honest")
    assert rank({**scores, "accuracy": 0.9}, "honest") == rank(scores, "honest")
    assert rank({**scores, "accuracy": 0.7, "auc": 0.1}, "paper") > rank(scores, "paper")


def test_the_better_epoch_of_a_regression_has_the_smaller_error() -> None:
    rank = TASK_KINDS["regression"](AGE, np.array([50.0, 70])).rank
    assert rank({"mae": 3.0}, "honest") > rank({"mae": 4.0}, "honest")


def test_outputs_are_given_back_in_years_by_the_scale_of_the_training_part() -> None:
    objective = TASK_KINDS["regression"](AGE, np.array([50.0, 70]))
    step = {"indices": torch.tensor([1, 0]), "outputs": torch.tensor([[1.0], [-2.0]])}
    found = objective.predictions(["a", "b"], [step], np.array([45.0, 75.0]))
    assert isinstance(found, ValuePredictions)
    np.testing.assert_allclose(found.values, [40, 70])
    assert found.summary()["mae"] == pytest.approx(5) and found.summary()["loss"] == pytest.approx(0.5)


def test_each_case_keeps_its_own_outputs_in_whatever_order_they_come() -> None:
    steps = [{"indices": torch.tensor([2, 0]), "outputs": torch.tensor([[2.0], [0.0]])}]
    steps.append({"indices": torch.tensor([1]), "outputs": torch.tensor([[1.0]])})
    np.testing.assert_array_equal(in_order(["a", "b", "c"], steps), [[0.0], [1.0], [2.0]])


def test_an_epochs_area_is_of_the_last_class() -> None:
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = ClassPredictions(cases=("a", "b", "c", "d"), logits=logits, targets=np.array([0, 0, 1, 1]))
    assert (found.auc, found.accuracy) == (1.0, 1.0)
    assert found.columns(TASK)["prob_AD"] == pytest.approx(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])))


def test_layers_nearer_to_the_input_learn_more_slowly() -> None:
    with torch.device("meta"):
        network = build((1, 1, 1, 1), (8, 8, 8, 8), 1, 2, (32, 32, 32))
    head, *layers = parameter_groups(network, network.encoder, 0.5)
    share_of = {id(parameter): group[RATE_SHARE] for group in layers for parameter in group["params"]}
    stem, deepest = (next(part.parameters()) for part in (network.encoder.stem, network.encoder.stages[-1]))
    assert RATE_SHARE not in head
    assert share_of[id(stem)] < share_of[id(deepest)] == 0.5
