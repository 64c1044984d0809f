"""Age, sex and volumes told at once: what is known teaches, what is not does not, and bad input is one line."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.proxy.objective import ProxyObjective
from adnext_plugin.pretraining.proxy.options import ProxyOptions

OPTIONS = ProxyOptions(numbers=("age", "brain_ml"), categories={"sex": ("F", "M")})
ROWS = pd.DataFrame({"age": [60.0, 70.0, np.nan], "brain_ml": ["1000", "", ""], "sex": ["M", "?", ""]})


class _Says(nn.Module):
    """Says of every scan the same."""

    def __init__(self, *outputs: float) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor(outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.outputs.expand(len(images), -1)


def _batch(labels: np.ndarray) -> Batch:
    scans = len(labels)
    return Batch(torch.zeros(scans, 1, 2, 2, 2), torch.zeros(scans), torch.from_numpy(labels), torch.arange(scans))


def test_labels_are_standardised_numbers_and_places_of_words_nan_where_unknown() -> None:
    known = ProxyObjective(OPTIONS).fitted(ROWS)
    nan = math.nan
    expected = np.array([[-1, 0, 1], [1, nan, nan], [nan, nan, nan]], dtype=np.float32)
    np.testing.assert_allclose(known.labels(ROWS), expected)
    assert known.notes() == {"scales": {"age": [65.0, 5.0], "brain_ml": [1000.0, 1.0]}}


def test_the_loss_is_the_mean_over_what_is_known_and_only_that_teaches() -> None:
    known = ProxyObjective(OPTIONS).fitted(ROWS)
    network = _Says(0.5, 2.0, 0.0, math.log(3))
    batch = _batch(known.labels(ROWS))
    of_sex = -math.log(3 / 4)
    errors = [1.5**2, 2.0**2, of_sex], [0.5**2]
    each = known.losses(network, batch, [])
    assert each.tolist() == pytest.approx([sum(errors[0]) / 3, errors[1][0], 0])
    loss = known.loss(network, batch, [])
    assert loss.item() == pytest.approx((sum(errors[0]) + errors[1][0]) / 4)
    assert known.scores([known.outputs(network, batch, [])])["loss"] == pytest.approx(loss.item())
    # volumes are known of the first scan alone: its gradient is all there is, 2 · 2 / 4
    loss.backward()
    assert network.outputs.grad[1] == pytest.approx(1.0) and network.outputs.grad.isfinite().all()


def test_a_batch_of_whom_nothing_is_known_teaches_nothing() -> None:
    known = ProxyObjective(OPTIONS).fitted(ROWS)
    network = _Says(0.5, 2.0, 0.0, 1.0)
    loss = known.loss(network, _batch(known.labels(ROWS)[2:]), [])
    loss.backward()
    assert loss.item() == 0 and (network.outputs.grad == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": (), "categories": {}}, "both empty"),
        ({"categories": {"sex": ("F",)}}, r"'sex' needs at least two different words, got \['F'\]"),
        ({"categories": {"sex": ("F", "F")}}, "at least two different words"),
        ({"numbers": ("sex",)}, "'sex' is named twice"),
        ({"numbers": ("age", "age")}, "'age' is named twice"),
    ],
)
def test_impossible_options_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ProxyOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": ("agee",)}, "no column 'agee'; did you mean 'age'.*without agee"),
        ({"numbers": ("empty",)}, "column 'empty' of subjects.csv has no number for any of 3 scans to train on; "),
        ({"categories": {"sex": ("female", "male")}}, "has no word of female, male for any of 3 scans .*'M'"),
    ],
)
def test_what_is_known_of_nobody_cannot_be_taught(options: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        ProxyObjective(ProxyOptions(**options)).fitted(ROWS.assign(empty=""))
    assert "\n" not in str(error.value)


def test_a_network_that_is_told_the_age_is_refused() -> None:
    network = NetworkSettings(name="liu_cnn", options={"age_branch": True})
    plan = Plan(preprocessing=PreprocessingSettings(input_size_voxels=(96, 96, 96)), network=network)
    with torch.device("meta"), pytest.raises(SettingsError, match="liu_cnn is told age beside the scan"):
        ProxyObjective(ProxyOptions()).build(plan, 1)
