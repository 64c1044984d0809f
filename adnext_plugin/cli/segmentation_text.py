"""Dice of segmentations, and differences of it, as the terminal shows them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adnext_plugin.cli.score_text import in_digits, in_words, p_in_words

if TYPE_CHECKING:
    from adnext_plugin.evaluation.segmentation.dice import ClassDice, NamedCase
    from adnext_plugin.evaluation.segmentation.paired import PairOfRuns
    from adnext_plugin.workflows import compare_segmentations, evaluate_segmentation


def print_dice(result: "evaluate_segmentation.Result") -> None:
    """Print the table of a run's classes, and its cases by name."""
    if result.warning:
        print(result.warning)
    print(f"{len(result.cases.case_ids)} held-out cases of {_folds(result.folds)}. {_resampled(result.unit)}")
    if result.missing_folds:
        print(f"Not there yet: {_folds(result.missing_folds)}.")
    _print_table(result.classes)
    last = result.classes[-1]
    for word, case in (("best", last.best_case), ("median", last.median_case), ("worst", last.worst_case)):
        if case is not None:
            print(f"{word + ' case,':13}{last.name}: {_case(case)}, {result.run.path / case.file}")
    print(f"Scores: {result.folder.dice_file}")
    print(f"Cases:  {result.folder.dice_table}")


def print_comparison(result: "compare_segmentations.Result") -> None:
    """Print the table of every run, and the differences of every pair."""
    for warning in result.warnings:
        print(warning)
    print(f"{result.cases} held-out cases of {_folds(result.folds)}, the same for all runs. {_resampled(result.unit)}")
    for name, found in result.runs.items():
        print(name)
        _print_table(found)
    for pair in result.pairs:
        _print_pair(pair)
    print("Each network was trained once per fold: what another seed would change is not part of these numbers.")


def _print_table(classes: "Sequence[ClassDice]") -> None:
    width = max(len(one.name) for one in classes) + 4
    print(f"{'':{width}}{'Dice, mean of cases':26}{'SD':8}{'median':8}worst case")
    for one in classes:
        spread = f"{in_digits(one.standard_deviation):8}{in_digits(one.median):8}"
        worst = _case(one.worst_case) if one.worst_case else "-"
        absent = f"; {one.without} cases have no Dice" if one.without else ""
        print(f"{'  ' + one.name:{width}}{in_words(one.mean):26}{spread}{worst}{absent}")
    _print_notes([(one.name, one.mean.note) for one in classes])


def _print_pair(pair: "PairOfRuns") -> None:
    width = max(len(one.name) for one in pair.classes) + 4
    print(f"{pair.first} less {pair.second}")
    print(f"{'':{width}}{'difference of Dice':28}{'Wilcoxon p':12}{'Holm':8}better in cases")
    for one in pair.classes:
        tests = f"{p_in_words(one.wilcoxon_p):12}{p_in_words(one.wilcoxon_p_holm):8}"
        counts = f"{one.first_better} against {one.second_better} of {one.cases}"
        absent = f"; {one.left_out} left out, where a run has no Dice" if one.left_out else ""
        print(f"{'  ' + one.name:{width}}{in_words(one.difference):28}{tests}{counts}{absent}")
    _print_notes([(one.name, one.difference.note) for one in pair.classes])


def _print_notes(notes: Sequence[tuple[str, str | None]]) -> None:
    if len({note for _, note in notes}) == 1:
        notes = [("all", notes[0][1])]
    for name, note in notes:
        if note is not None:
            print(f"  {name}: {note}")


def _case(case: "NamedCase") -> str:
    return f"{case.dice:.3f} {case.case_id}"


def _folds(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(str(fold) for fold in folds)}"


def _resampled(unit: str) -> str:
    if unit == "subject":
        return "Intervals are over subjects."
    return "Nothing says whose cases they are (subjects.csv), so that intervals are over cases."
