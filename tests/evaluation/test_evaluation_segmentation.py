"""Dice of segmentations with intervals over people, and paired differences, against oracles."""

import numpy as np
import pytest
from scipy.stats import t, wilcoxon

from adnext_plugin.errors import SplitError
from adnext_plugin.evaluation.segmentation.dice import MEAN, dice_of_classes, mean_over_people, with_mean
from adnext_plugin.evaluation.segmentation.paired import compare_segmentations, require_same_cases
from adnext_plugin.evaluation.segmentation.summaries import SegmentedCases

NAN = float("nan")


def _cases(dice: np.ndarray, **changes) -> SegmentedCases:
    count, classes = dice.shape
    fields = {
        "classes": ("front", "back")[:classes],
        "case_ids": tuple(f"case_{number:03d}" for number in range(count)),
        "folds": (0,) * count,
        "files": tuple(f"fold_0/validation/case_{number:03d}.nii.gz" for number in range(count)),
        "voxels": np.full(dice.shape, 50),
        "size": np.full(count, 1000),
    }
    return SegmentedCases(**{**fields, "dice": dice, **changes})


def _drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.6, 0.95, (count, 2))


def test_the_interval_of_a_mean_lies_around_it_as_students_does() -> None:
    dice = _drawn(60, 1)
    front, back, mean = dice_of_classes(_cases(dice), [str(number) for number in range(60)], 2000)
    for found, values in ((front, dice[:, 0]), (back, dice[:, 1]), (mean, dice.mean(axis=1))):
        half = t.ppf(0.975, 59) * values.std(ddof=1) / np.sqrt(60)
        assert found.mean.value == pytest.approx(values.mean(), abs=1e-12)
        assert found.mean.low == pytest.approx(values.mean() - half, abs=0.15 * half)
        assert found.mean.high == pytest.approx(values.mean() + half, abs=0.15 * half)
        assert found.standard_deviation == pytest.approx(values.std(ddof=1), abs=1e-12)
        assert found.median == pytest.approx(np.median(values), abs=1e-12)
    assert mean.name == MEAN and front.people == front.cases == 60


def test_a_second_case_of_everybody_brings_no_certainty() -> None:
    values, people = _drawn(30, 2)[:, 0], np.arange(30)
    once = mean_over_people(values, people, 500)
    twice = mean_over_people(np.tile(values, 2), np.tile(people, 2), 500)
    as_others = mean_over_people(np.tile(values, 2), np.arange(60), 500)
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    assert as_others.high - as_others.low < 0.85 * (once.high - once.low)


def test_cases_without_a_dice_are_counted_and_left_out() -> None:
    dice = np.array([[0.8, NAN], [0.6, NAN], [0.7, 0.5], [NAN, NAN], [0.9, 0.1]])
    front, back, mean = dice_of_classes(_cases(dice), list("abcde"), 200)
    assert (front.cases, front.without, front.mean.value) == (4, 1, pytest.approx(0.75))
    assert (back.cases, back.without, back.mean.value) == (2, 3, pytest.approx(0.3))
    assert (mean.cases, mean.without, mean.mean.value) == (4, 1, pytest.approx((0.8 + 0.6 + 0.6 + 0.5) / 4))
    assert front.mean.low is None and "fewer than 8" in front.mean.note
    assert (front.worst_case.case_id, front.median_case.case_id, front.best_case.case_id) == (
        "case_001",
        "case_002",
        "case_004",
    )
    assert front.worst_case.file == "fold_0/validation/case_001.nii.gz"


def test_a_structure_that_nobody_has_has_no_numbers() -> None:
    dice = np.column_stack([_drawn(9, 3)[:, 0], np.full(9, NAN)])
    _, back, mean = dice_of_classes(_cases(dice), list("abcdefghi"), 200)
    assert back.mean.value is None and back.worst_case is None and back.median is None and back.without == 9
    assert mean.mean.value == pytest.approx(dice[:, 0].mean())


def test_one_class_needs_no_mean_of_classes() -> None:
    names, values = with_mean(("tumour",), np.array([[0.5], [NAN]]))
    assert names == ("tumour",) and values.shape == (2, 1)


def test_paired_differences_have_the_p_of_scipys_wilcoxon() -> None:
    first, second = _drawn(40, 4), _drawn(40, 5) - 0.08
    second[7, 0], second[8, 1], first[9] = NAN, NAN, NAN
    (pair,) = compare_segmentations({"A": _cases(first), "B": _cases(second)}, [str(n) for n in range(40)], 500)
    assert (pair.first, pair.second) == ("A", "B")
    differences = first - second
    mean = np.nanmean(np.delete(differences, 9, axis=0), axis=1)
    for found, expected in zip(pair.classes, (differences[:, 0], differences[:, 1], mean), strict=True):
        present = expected[~np.isnan(expected)]
        assert found.difference.value == pytest.approx(present.mean(), abs=1e-12)
        assert found.difference.low < found.difference.value < found.difference.high
        assert found.wilcoxon_p == found.wilcoxon_p_holm == pytest.approx(wilcoxon(present).pvalue, rel=1e-9)
        assert (found.first_better, found.second_better) == ((present > 0).sum(), (present < 0).sum())
    assert [one.left_out for one in pair.classes] == [2, 2, 1]


def test_wilcoxons_test_counts_a_person_once() -> None:
    first, second = _drawn(20, 6), _drawn(20, 7)
    people = [str(number // 2) for number in range(20)]
    (pair,) = compare_segmentations({"A": _cases(first), "B": _cases(second)}, people, 200)
    by_person = (first - second)[:, 0].reshape(10, 2).mean(axis=1)
    assert (pair.classes[0].people, pair.classes[0].cases) == (10, 20)
    assert pair.classes[0].wilcoxon_p == pytest.approx(wilcoxon(by_person).pvalue, rel=1e-9)


def test_p_values_of_three_runs_are_corrected_for_three_pairs_class_by_class() -> None:
    runs = {
        name: _cases(_drawn(30, seed) + shift) for name, seed, shift in (("A", 8, 0.0), ("B", 9, -0.05), ("C", 10, 0))
    }
    pairs = compare_segmentations(runs, [str(number) for number in range(30)], 200)
    assert [(pair.first, pair.second) for pair in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    for index in range(3):
        plain = sorted(pair.classes[index].wilcoxon_p for pair in pairs)
        corrected = sorted(pair.classes[index].wilcoxon_p_holm for pair in pairs)
        assert corrected[0] == pytest.approx(min(1, 3 * plain[0])) and corrected[2] >= plain[2]


def test_equal_runs_have_a_difference_of_nothing_and_a_p_of_1() -> None:
    dice = _drawn(12, 11)
    (pair,) = compare_segmentations({"A": _cases(dice), "B": _cases(dice.copy())}, list("abcdefghijkl"), 200)
    for one in pair.classes:
        assert (one.difference.value, one.difference.low, one.wilcoxon_p) == (0, None, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case_ids": ("case_000", "case_001", "case_003")}, "B has not segmented case_002"),
        ({"case_ids": ("case_0", "case_001", "case_002")}, "A has not segmented case_0;"),
        ({"folds": (0, 1, 0)}, "case_001 was held out by fold 0 of the one and fold 1"),
        (
            {"voxels": np.array([[50, 50], [50, 50], [50, 49]])},
            "other ground truths of case_002, by the voxels of back",
        ),
        ({"size": np.array([1000, 999, 1000])}, "case_001, by the voxels of the whole image"),
        ({"classes": ("front", "rear")}, "their classes are front, back and front, rear"),
    ],
)
def test_other_cases_or_ground_truths_are_refused_by_name(changes: dict, message: str) -> None:
    dice = _drawn(3, 12)
    with pytest.raises(SplitError, match=message) as caught:
        require_same_cases({"A": _cases(dice), "B": _cases(dice, **changes)})
    assert "\n" not in str(caught.value)
    require_same_cases({"A": _cases(dice), "B": _cases(dice - 0.1)})
