"""Y-aware contrast: published numbers, the properties of its loss, what several processes share, and bad input."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.pretraining.contrast.objective import ContrastiveObjective, TwoViews
from adnext_plugin.pretraining.contrast.options import ContrastiveOptions
from adnext_plugin.pretraining.contrast.y_aware import alike, losses
from adnext_plugin.pretraining.nearest import guess_number, guess_word
from adnext_plugin.trainers.processes import LossOf

FIRST = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
SECOND = torch.tensor([[1, 0.5], [0.5, 1], [1, -1]], dtype=torch.float64)
AGES = torch.tensor([[60.0], [65.0], [80.0]], dtype=torch.float64)
NOTHING = torch.zeros(3, 0, dtype=torch.float64)


def _loss(ages: torch.Tensor, sigma: float, form: str = "intended", order: tuple[int, ...] = (0, 1, 2)) -> float:
    chosen = list(order)
    weights = alike(ages[chosen], [sigma], NOTHING)
    return float(losses(FIRST[chosen], SECOND[chosen], weights, 0.1, form).mean())


@pytest.mark.parametrize(
    ("sigma", "released", "intended"),
    [
        (5, 10.1419947040, 5.0674149085),
        (1e-3, 6.6880423665, 3.3440211833),
        (1e6, 9.5539226047, 4.7769613023),
    ],
)
def test_the_loss_is_that_of_the_papers_code_and_the_one_it_means(
    sigma: float, released: float, intended: float
) -> None:
    assert _loss(AGES, sigma, "released") == pytest.approx(released, abs=5e-11)
    assert _loss(AGES, sigma) == pytest.approx(intended, abs=5e-11)


def test_a_narrow_kernel_and_no_labels_are_nt_xent() -> None:
    both = nn.functional.normalize(torch.cat([FIRST, SECOND]), dim=1)
    similarities = (both @ both.T / 0.1).fill_diagonal_(-math.inf)
    nt_xent = float(nn.functional.cross_entropy(similarities, torch.tensor([3, 4, 5, 0, 1, 2])))
    assert nt_xent == pytest.approx(3.3440211833, abs=5e-11) == _loss(AGES, 1e-3)
    without = losses(FIRST, SECOND, alike(NOTHING, [], NOTHING), 0.1, "intended")
    assert float(without.mean()) == pytest.approx(nt_xent)


@pytest.mark.parametrize("form", ["intended", "released"])
def test_neither_the_order_of_people_nor_that_of_views_matters(form: str) -> None:
    expected = _loss(AGES, 5, form)
    for order in ((2, 0, 1), (1, 0, 2)):
        assert _loss(AGES, 5, form, order) == pytest.approx(expected, rel=1e-12)
    weights = alike(AGES, [5], NOTHING)
    assert float(losses(SECOND, FIRST, weights, 0.1, form).mean()) == pytest.approx(expected, rel=1e-12)


def test_people_of_one_age_are_all_alike() -> None:
    assert torch.equal(alike(torch.full((3, 1), 70.0), [5], torch.zeros(3, 0)), torch.ones(3, 3))
    # and the loss then is the one of an endlessly wide kernel
    assert _loss(torch.full_like(AGES, 70), 5) == pytest.approx(4.7769613023, abs=5e-11)


def test_one_direction_compares_first_views_with_second_ones_alone() -> None:
    weights = alike(AGES, [5], NOTHING)
    told = nn.functional.normalize(FIRST, dim=1) @ nn.functional.normalize(SECOND, dim=1).T / 0.1
    by_hand = 0.0
    for row in range(3):
        total = sum(math.exp(float(value)) for value in told[row])
        shares = weights[row] / weights[row].sum()
        by_hand -= sum(float(shares[k]) * math.log(math.exp(float(told[row, k])) / total) for k in range(3)) / 3
    assert float(losses(FIRST, SECOND, weights, 0.1, "nidl").mean()) == pytest.approx(by_hand, rel=1e-12)


def test_kernels_multiply_and_who_is_unknown_has_only_their_own_pair() -> None:
    nan = math.nan
    ages = torch.tensor([[60.0], [65.0], [60.0], [nan], [60.0]])
    sexes = torch.tensor([[0.0], [0.0], [1.0], [0.0], [nan]])
    near = math.exp(-0.5)
    expected = torch.eye(5)
    expected[0, 1] = expected[1, 0] = near
    torch.testing.assert_close(alike(ages, [5], sexes), expected)
    torch.testing.assert_close(
        alike(ages[:, :0], [], sexes)[:4, :4], torch.tensor([[1.0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1]])
    )
    # they are never dropped: their own pair counts as in SimCLR
    unknown = torch.tensor([[60.0], [65.0], [nan]], dtype=torch.float64)
    one = losses(FIRST, SECOND, alike(unknown, [5], NOTHING), 0.1, "intended")[2]
    assert float(one) == pytest.approx(float(losses(FIRST, SECOND, torch.eye(3).double(), 0.1, "intended")[2]))


def _rows(**columns: list) -> pd.DataFrame:
    people = len(next(iter(columns.values())))
    return pd.DataFrame({"subject_id": [f"s{index}" for index in range(people)], **columns})


def test_labels_are_numbers_and_codes_in_the_order_of_the_options() -> None:
    objective = ContrastiveObjective(ContrastiveOptions(categories=("sex",)))
    known = objective.fitted(_rows(age=[60.0, np.nan, 70.0], sex=["M", "F", ""]))
    found = known.labels(_rows(age=[50.0, np.nan], sex=["M", "other"]))
    np.testing.assert_array_equal(found, np.array([[50, 1], [np.nan, np.nan]], dtype=np.float32))
    assert ContrastiveObjective(ContrastiveOptions(sigmas={})).labels(_rows(age=[1.0])).shape == (1, 0)


@pytest.mark.parametrize("sigma", [0, -1, math.nan, math.inf])
def test_an_impossible_width_says_what_to_do(sigma: float) -> None:
    with pytest.raises(SettingsError, match=r"the width for 'age' must be above 0, got .*leave the column out"):
        ContrastiveOptions(sigmas={"age": sigma})


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        ({}, _rows(sex=["M", "F"]), "no column 'age'; .*is SimCLR"),
        ({"sigmas": {"agee": 5}}, _rows(age=[1, 2]), "no column 'agee'; did you mean 'age'"),
        ({}, _rows(age=["", "old"]), "column 'age' .* has no number for any of 2 scans to train on, .*'old'"),
        ({"categories": ("sex",)}, _rows(age=[1, 2], sex=["", ""]), "column 'sex' .* has no word for any of 2 scans"),
        ({}, _rows(age=[1, 2]).assign(subject_id="s0"), "all 2 scans to train on are of one person"),
    ],
)
def test_people_that_cannot_be_contrasted_are_one_line(options: dict, rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        ContrastiveObjective(ContrastiveOptions(**options)).fitted(rows)
    assert "\n" not in str(error.value)


def test_two_views_differ_and_are_a_function_of_the_seed() -> None:
    views = TwoViews(lambda image, seed: image + seed)
    image = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    once, again, other = views(image, 3), views(image, 3), views(image, 4)
    assert once.shape == (2, 1, 2, 2, 2) and torch.equal(once, again)
    assert len({float(view.mean()) for view in (*once, *other)}) == 4


def test_labels_are_guessed_from_the_nearest_scans_that_have_one() -> None:
    known = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
    judged = torch.tensor([[2.0, 0.1], [0, 3]])
    ages = torch.tensor([60.0, 70, 20, math.nan])
    assert guess_number(known, judged, ages, torch.tensor([66.0, 25]), neighbours=1) == pytest.approx((4 + 5) / 2)
    assert guess_number(known, judged, ages, torch.tensor([math.nan, 25]), neighbours=None) == pytest.approx(25)
    assert guess_word(known, judged, torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 0]), neighbours=1) == 0.5


PROCESSES = 2


class _Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
        self.projector = nn.Linear(4, 3)


def _batch(rows: slice) -> Batch:
    images = torch.randn(5, 2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[60.0], [62], [70], [math.nan], [75]])
    return Batch(images[rows], torch.zeros(5)[rows], labels[rows], torch.arange(5)[rows])


def _train(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    objective = ContrastiveObjective(ContrastiveOptions())
    wrapped = DistributedDataParallel(LossOf(_Both(), objective.loss))
    loss = wrapped(_batch(slice(rank, None, PROCESSES)), [])  # three scans here, two there
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in wrapped.module.network.named_parameters()}
    torch.save({"loss": loss.detach(), "gradients": gradients}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_contrast_the_whole_batch_and_get_the_gradients_of_one_process() -> None:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_train, args=(folder,), nprocs=PROCESSES)
        found = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]
    alone = _Both()
    loss = ContrastiveObjective(ContrastiveOptions()).loss(alone, _batch(slice(None)), [])
    loss.backward()
    for one in found:
        torch.testing.assert_close(one["loss"], loss.detach())
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(one["gradients"][name], parameter.grad)
