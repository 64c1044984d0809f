"""What the terminal shows of an evaluation."""

from typing import TYPE_CHECKING

from adnext_plugin.cli.score_text import in_digits, in_words, print_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adnext_plugin.evaluation.scores.score import Score
    from adnext_plugin.evaluation.scores.within_site import WithinSite
    from adnext_plugin.evaluation.studies.crossval import Evaluation
    from adnext_plugin.evaluation.studies.details import ClassifierDetails
    from adnext_plugin.evaluation.studies.inflation import InflationMeter
    from adnext_plugin.evaluation.studies.probe import Probe
    from adnext_plugin.evaluation.studies.seeds import SeedSpread
    from adnext_plugin.findings import StudyDesign
    from adnext_plugin.workflows import evaluate


def print_evaluation(result: "evaluate.Result") -> None:
    """Print scores by fold, the network beside its baselines, all other scores, a conclusion, seeds and the meter."""
    from adnext_plugin.evaluation.scores.table import lines_for

    if result.warning:
        print(result.warning)
    lines = lines_for(result.predictions)
    if result.design is not None:
        _print_design(result.design, lines)
    _print_scores_beside_baselines(result.run.trainer, result.evaluation, lines)
    for note in (*result.notes, *_missing_intervals(result.evaluation)):
        print(f"note: {note}")
    _conclude(result.evaluation)
    if result.seeds is not None:
        _print_seeds(result.seeds, lines)
    if result.inflation_meter is not None:
        _print_inflation(result.inflation_meter)


def print_files(result: "evaluate.Result") -> None:
    """Print where everything is."""
    print(f"Predictions, metrics and figures are in {result.folder.path}")
    if result.report is None:
        print(f"No report was written: {result.report_problem}")
    else:
        print(f"The report is in {result.report}")


def _print_scores_beside_baselines(trainer: str, evaluation: "Evaluation", lines: "Mapping[str, Score]") -> None:
    print(f"{evaluation.subjects} held-out subjects in {len(evaluation.folds)} folds, 95 % intervals over subjects")
    for name in (one.within_fold for one in lines.values() if "terminal by fold" in one.shown):
        if name is not None and name in evaluation.means_of_folds:
            by_fold = "  ".join(in_digits(fold.scores[name]) for fold in evaluation.folds)
            over = evaluation.means_of_folds[name]
            spread = f"mean {in_digits(over.mean)}, SD {in_digits(over.standard_deviation)}"
            print(f"{name.replace('_', ' ') + ' by fold':28}{by_fold}   {spread}")
    headline = [one for one in lines.values() if "headline" in one.shown]
    print(f"{'':24}{''.join(f'{one.title:26}' for one in headline)}gain of the network")
    for name, scores, gain in (
        (trainer, evaluation.scores, None),
        *((baseline.name, baseline.scores, baseline.gain_of_network) for baseline in evaluation.baselines),
    ):
        cells = "".join(f"{in_words(scores[one.name]):26}" for one in headline)
        print(f"{name:24}{cells}{in_words(gain) if gain else ''}".rstrip())
    print("all held-out subjects together:")
    shown = {name: one.title for name, one in lines.items() if "terminal" in one.shown}
    print_scores({title: evaluation.scores[name] for name, title in shown.items() if name in evaluation.scores})
    if evaluation.details is not None:
        _print_details(evaluation.details)
    if evaluation.within_site is not None:
        _print_within_site(evaluation.within_site)


def _print_design(design: "StudyDesign", lines: "Mapping[str, Score]") -> None:
    """Print what is unusual about the folds, and the headline scores of every repeat."""
    if design.kind == "fixed hold-out":
        share = design.held_out / design.subjects
        print(
            f"Fixed hold-out: {design.held_out} of {design.subjects} subjects ({share:.0%}) are held out; all others "
            "are trained or chosen on. The mean of folds is that of the one fold"
        )
        return
    print(
        f"Repeated cross-validation: {len(design.repeats)} repeats of {len(design.repeats[0].folds)} folds. Scores are "
        "means of the repeats; intervals are over subjects, each with all of their repeats"
    )
    for name in (name for name, one in lines.items() if "headline" in one.shown):
        each = "  ".join(in_digits(repeat.scores[name]) for repeat in design.repeats)
        print(f"  {name.replace('_', ' ') + ' by repeat':32}{each}")
    print("  calibration, decisions, sites and figures are of the first repeat")


def _print_seeds(spread: "SeedSpread", lines: "Mapping[str, Score]") -> None:
    """Print what another seed changes, which no interval over subjects holds."""
    names = ", ".join(map(str, spread.seeds))
    print(f"{len(spread.seeds)} seeds ({names}), apart from the intervals over subjects:")
    for name in (name for name, one in lines.items() if "headline" in one.shown):
        score = spread.scores[name]
        each = "  ".join(map(in_digits, score.by_seed))
        print(
            f"  {name.replace('_', ' '):32}{each}   mean {in_digits(score.mean)}, SD "
            f"{in_digits(score.standard_deviation)}, range {in_digits(score.lowest)} to {in_digits(score.highest)}; "
            f"of the mean prediction {in_words(spread.together[name])}"
        )


def _print_inflation(meter: "InflationMeter") -> None:
    """Print what the paper's protocol would have made of the run."""
    epochs = ", ".join(map(str, meter.epochs))
    print(f"Inflation meter, the same run with the epoch chosen on the held-out fold (epochs {epochs}):")
    for name, score in meter.scores.items():
        both = f"honest {in_digits(score.honest)}, best held-out epoch {in_digits(score.best_held_out_epoch)}"
        print(f"  {name.replace('_', ' '):32}{both}, inflated by {in_digits(score.inflated_by)}")
    print(f"  {meter.warning}. Never report it.")


def print_probes(probes: "Sequence[Probe]") -> None:
    """Print what features of held-out scans tell of people besides the answer, if it was asked."""
    if not probes:
        return
    print("What a linear model guesses from the features of held-out scans:")
    for one in probes:
        counts = ", ".join(f"{count} {name}" for name, count in zip(one.classes, one.subjects_by_class, strict=True))
        if one.scores is None:
            print(f"  {one.column}: too few subjects of two classes ({counts or 'none'})")
            continue
        words = [f"{name.replace('_', ' ')} {in_words(value)}" for name, value in one.scores.items()]
        print(f"  {one.column}: {', '.join(words)} ({counts})")


def _print_details(details: "ClassifierDetails") -> None:
    from adnext_plugin.evaluation.uncertainty.detectable import area_in_words

    print_scores({"calibration error, after temperature": details.calibration_after_temperature["ece_debiased"]})
    binary = details.binary
    if binary is None:
        return
    print_scores(
        {
            f"{name}, {binary.wanted_sensitivity:.0%} sensitivity wanted": binary.at_sensitivity[name]
            for name in ("sensitivity", "specificity")
        }
    )
    for values in binary.predictive_values:
        print(f"  where {values.prevalence:.1%} are positive: PPV {in_digits(values.ppv)}, NPV {in_digits(values.npv)}")
    print(f"  {area_in_words(binary.detectable_area)}")


def _print_within_site(within: "WithinSite") -> None:
    who = f"{sum(within.subjects_by_class)} subjects of {within.sites} sites"
    found = "too few subjects of a class" if within.auc is None else in_words(within.auc)
    print(f"  {'AUC within sites':50}{found} ({who})")


def _conclude(evaluation: "Evaluation") -> None:
    # whatever the score: the best baseline is the one over which the network gains least
    best = min(evaluation.baselines, key=lambda baseline: baseline.gain_of_network.value or 0)
    gain = best.gain_of_network
    if gain.low is None or gain.high is None:
        verdict = f"cannot be compared with it: {gain.note or 'a fold lacks a class'}"
    elif gain.low > 0:
        verdict = "is better: the interval of the difference is above 0"
    elif gain.high < 0:
        verdict = "is worse: the interval of the difference is below 0"
    else:
        verdict = "cannot be told apart from it with this cohort: the interval of the difference contains 0"
    print(f"The best baseline is {best.name}. The network {verdict}.")


def _missing_intervals(evaluation: "Evaluation") -> list[str]:
    """Why the network's primary score has no interval, where it has none."""
    primary = evaluation.scores[evaluation.primary_score]
    return [] if primary.low is not None or primary.note is None else [f"{evaluation.primary_score}: {primary.note}"]
