"""What the terminal shows of a run's networks on a dataset of other people."""

from typing import TYPE_CHECKING

from adnext_plugin.cli.score_text import in_words, print_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adnext_plugin.evaluation.scores.score import Score
    from adnext_plugin.findings import BaselineResult
    from adnext_plugin.workflows import evaluate_external


def print_external(result: "evaluate_external.Result") -> None:
    """Print scores on a dataset of other people, and where everything is."""
    from adnext_plugin.evaluation.scores.table import lines_for

    if result.warning:
        print(result.warning)
    networks = f"{len(result.model.folds)} networks trained on {result.trained_on} together"
    print(f"{len(result.predictions.targets)} subjects of {result.external}, {networks}")
    lines = lines_for(result.predictions)
    # headlines are of folds, of which there are none here
    titles = {name: one.title for name, one in lines.items() if "headline" not in one.shown}
    print_scores({titles.get(name, name): value for name, value in result.scores.items()})
    _print_baselines_of_others(result.baselines, lines)
    for note in result.notes:
        print(f"note: {note}")
    if result.recalibration is not None:
        print(result.recalibration.warning)
        print_scores({f"{name}, recalibrated": value for name, value in result.recalibration.recalibrated.items()})
    print(f"Predictions, metrics and figures are in {result.folder.path}")


def _print_baselines_of_others(baselines: "Sequence[BaselineResult]", lines: "Mapping[str, Score]") -> None:
    headline = [one for one in lines.values() if "headline" in one.shown and one.within_fold is not None]
    titles = [str(one.within_fold).replace("_", " ") for one in headline]
    print(
        f"{'baselines, fitted where it was trained':40}{''.join(f'{title:26}' for title in titles)}gain of the network"
    )
    for baseline in baselines:
        cells = "".join(f"{in_words(baseline.scores[str(one.within_fold)]):26}" for one in headline)
        print(f"  {baseline.name:38}{cells}{in_words(baseline.gain_of_network)}")
