"""The table of scores: those built in are what they were, and another package's stand beside them."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from adnext_plugin.errors import AdnextError, AdnextWarning, RegistryError
from adnext_plugin.evaluation.scores.panel import all_scores, fold_scores, names_within_fold, panel
from adnext_plugin.evaluation.scores.score import Score, score, values_of
from adnext_plugin.evaluation.scores.table import BUILT_IN, installed_scores, primary_score
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import SubjectValues

PEOPLE = 48
# what version 0.1.0 gave for `_made`: number of classes, function, name of the score, a value per row of weights
GOLDEN = json.loads((Path(__file__).parent / "golden_scores.json").read_text())


def _made(classes: int) -> SubjectPredictions | SubjectValues:
    generator = np.random.default_rng(classes)
    targets, folds = np.arange(PEOPLE) % max(classes, 2), np.arange(PEOPLE) // 12
    ids = np.array([f"s{index:02d}" for index in range(PEOPLE)])
    if classes == 0:
        truth = generator.uniform(20, 90, PEOPLE)
        guess = 0.5 * truth + 27 + generator.normal(0, 5, PEOPLE)
        return SubjectValues(subject_ids=ids, targets=truth, folds=folds, values=guess, corrected=2 * guess - 54)
    probabilities = np.exp(generator.normal(size=(PEOPLE, classes)) + 1.2 * np.eye(classes)[targets])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities = probabilities.round(2 if classes == 2 else 3)
    return SubjectPredictions(
        subject_ids=ids,
        targets=targets,
        folds=folds,
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        thresholds=np.array([0.4, 0.5, 0.6, 0.45])[folds] if classes == 2 else np.full(PEOPLE, np.nan),
        classes=("CN", "MCI", "AD") if classes == 3 else ("CN", "AD"),
    )


def _weights(predictions: SubjectPredictions | SubjectValues) -> np.ndarray:
    generator = np.random.default_rng(9)
    drawn = [np.bincount(generator.integers(PEOPLE, size=PEOPLE), minlength=PEOPLE) for _ in range(6)]
    weights = np.concatenate([np.ones((1, PEOPLE)), np.stack(drawn)]).astype(float)
    weights[6, predictions.targets == 0] = 0  # a resample without anybody of a class
    return weights


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_scores_of_version_0_1_0_are_the_same_to_the_bit_and_in_the_same_order(classes) -> None:
    it = _made(classes)
    weights = _weights(it)
    for function, found in (
        ("panel", panel(it, weights)),
        ("all_scores", all_scores(it, weights)),
        ("fold_scores", fold_scores(it.of_fold(1))),
    ):
        expected = GOLDEN[str(classes)][function]
        assert list(found) == list(expected)
        for name, values in found.items():
            # how much a fold counts in a resample has changed since, what it counts in the data has not
            rows = 1 if name.endswith("_mean_of_folds") else None
            assert [float(value).hex() for value in np.atleast_1d(values)][:rows] == expected[name][:rows], name


def test_every_score_says_what_there_is_to_say() -> None:
    for classes in (0, 2, 3):
        names = [one.name for one in BUILT_IN if one.fits(_made(classes))]
        assert len(names) == len(set(names))
    assert all(one.title for one in BUILT_IN)
    lower = {one.name for one in BUILT_IN if one.lower_is_better}
    assert lower == {"log_loss", "brier", "brier_reliability", "ece_debiased", "mae", "rmse"}
    assert (primary_score(_made(2)).name, primary_score(_made(0)).name) == ("auc_mean_of_folds", "mae")


def test_within_a_fold_the_mean_of_folds_and_the_pooled_area_are_one() -> None:
    names = names_within_fold(_made(3))
    assert names["auc_mean_of_folds"] == "auc" and "auc_pooled" not in names
    assert names["auc_of_MCI_mean_of_folds"] == "auc_of_MCI" and names["mcc"] == "mcc"
    assert "auc_of_MCI" in fold_scores(_made(3).of_fold(0))


@score(needs="two classes", title="Youden's J", chance=0.0)
def youden_index(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Sensitivity + specificity - 1 at the folds' thresholds."""
    right = weights * (predictions.called_at_threshold == predictions.targets)
    rates = [
        right[:, members].sum(1) / weights[:, members].sum(1) for members in map(predictions.targets.__eq__, (0, 1))
    ]
    return sum(rates) - 1


def test_a_score_of_ones_own_is_computed_where_it_fits() -> None:
    it = _made(2)
    ones = np.ones((1, PEOPLE))
    found = panel(it, ones, (*BUILT_IN, youden_index))
    assert list(found)[-1] == "youden_index"
    expected = found["sensitivity_at_selection_threshold"] + found["specificity_at_selection_threshold"] - 1
    assert found["youden_index"] == pytest.approx(expected)
    assert "youden_index" in fold_scores(it.of_fold(0), (*BUILT_IN, youden_index))
    for classes in (0, 3):
        it = _made(classes)
        assert "youden_index" not in panel(it, _weights(it), (*BUILT_IN, youden_index))


@pytest.mark.parametrize(
    "values",
    [lambda it, weights: 0.5, lambda it, weights: weights, lambda it, weights: np.array(["high"] * len(weights))],
)
def test_a_score_that_gives_something_else_than_a_number_per_row_is_named(values) -> None:
    wrong = Score(name="odd", values=values, needs="classes", title="odd")
    with pytest.raises(AdnextError, match=r"score 'odd' gives .* one number for each of the 7 rows"):
        values_of((wrong,), _made(2), _weights(_made(2)))


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, *lines: str) -> None:
    (folder / "somebodys_scores.py").write_text(code)
    information = folder / "somebodys_scores-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys_scores\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("\n".join(["[adnext.scores]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "somebodys_scores", raising=False)


CODE = """
from adnext_plugin.evaluation.scores.score import score

@score(needs="classes", title="Share of wrong calls", lower_is_better=True)
def error_rate(predictions, weights):
    wrong = predictions.probabilities.argmax(axis=1) != predictions.targets
    return weights @ wrong / weights.sum(axis=1)

nothing = 3
"""


def test_installed_scores_come_after_those_built_in_under_the_name_of_their_entry(tmp_path, monkeypatch) -> None:
    assert installed_scores() == BUILT_IN
    _install(tmp_path, monkeypatch, CODE, "wrong_calls = somebodys_scores:error_rate")
    *built_in, last = installed_scores()
    assert tuple(built_in) == BUILT_IN and (last.name, last.within_fold, last.needs) == ("wrong_calls",) * 2 + (
        "classes",
    )
    found = panel(_made(3), np.ones((1, PEOPLE)), installed_scores())
    assert found["wrong_calls"] == pytest.approx(1 - found["accuracy"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "brier = somebodys_scores:error_rate",
            "'brier' of the package somebodys_scores has the name of one that is built in",
        ),
        ("odd = somebodys_scores:nothing", "'odd' is registered as int"),
    ],
)
def test_what_is_no_score_or_claims_a_name_is_refused(tmp_path, monkeypatch, line, message) -> None:
    _install(tmp_path, monkeypatch, CODE, line)
    with pytest.raises(RegistryError, match=message):
        installed_scores()


def test_a_package_that_cannot_be_imported_costs_a_warning(tmp_path, monkeypatch) -> None:
    _install(tmp_path, monkeypatch, "import gone_package\n", "lost = somebodys_scores:lost")
    with pytest.warns(AdnextWarning, match="'lost' of the package somebodys_scores cannot be imported"):
        assert installed_scores() == BUILT_IN
