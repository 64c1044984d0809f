"""The sections of a report about the study: what was asked, of whom, on which folds, and what came out."""

import pandas as pd

from adnext_plugin.findings import Estimate
from adnext_plugin.report import page_figures as draw
from adnext_plugin.report.facts import RunFacts, estimate, number
from adnext_plugin.report.page import PageFigure, Section, Table

FEWEST = 10  # subjects per class of a subgroup, below which nothing is shown


def question(facts: RunFacts) -> Section:
    """What was asked and what the answer is."""
    task, metrics = facts.task, facts.metrics
    asked = f"Can {task.target} be predicted from a brain scan?"
    if task.kind == "classification":
        asked = f"Can {' and '.join(task.classes)} be told apart by a brain scan ({task.target})?"
    primary = metrics.primary_score
    answer = (
        f"{facts.held_out_in_words}. "
        f"{facts.line_of(primary).title}: {estimate(metrics.scores[primary])}, with a 95 % interval over subjects."
    )
    paragraphs = [asked, answer]
    if metrics.baselines:
        best = min(metrics.baselines, key=lambda baseline: baseline.gain_of_network.value or 0)
        gain = best.gain_of_network
        paragraphs.append(f"Gain over the best baseline, {best.name}: {estimate(gain)}. {_verdict(gain)}")
    return Section(key="question", title="Question and answer", paragraphs=tuple(paragraphs))


def cohort(facts: RunFacts) -> Section:
    """Who was studied."""
    people = facts.people
    groups = {"all": people}
    if facts.task.kind == "classification":
        groups = {name: people[people[facts.task.target] == name] for name in facts.task.classes} | groups
    rows = []
    for name, group in groups.items():
        scans = facts.subjects["subject_id"].isin(group["subject_id"]).sum()
        rows.append((name, str(len(group)), str(scans), _ages(group), _counts(group, "sex"), _counts(group, "site")))
    header = ("class", "subjects", "scans", "age, mean ± SD (range)", "sex", "site")
    table = Table(caption="Subjects by class; of repeated scans the first counts", header=header, rows=tuple(rows))
    flow = (f"From scans to subjects: {'; '.join(facts.flow)}.",) if facts.flow else ()
    return Section(key="cohort", title="Cohort", paragraphs=flow, tables=(table,))


def splits(facts: RunFacts) -> Section:
    """On whom was trained, chosen and scored."""
    subject_of = facts.subjects.set_index("case_id")["subject_id"]
    class_of = facts.people.set_index("subject_id")[facts.task.target]
    rows = []
    for fold, parts in enumerate(facts.cohort.splits):
        cells = []
        for part in ("train", "selection", "val"):
            here = class_of.loc[sorted(set(subject_of.loc[list(parts[part])]))]
            by_class = " / ".join(str((here == name).sum()) for name in facts.task.classes)
            cells.append(f"{len(here)} ({by_class})" if by_class else str(len(here)))
        rows.append((str(fold), *cells))
    order = f" ({' / '.join(facts.task.classes)})" if facts.task.classes else ""
    who = "every subject is held out once" if facts.metrics.design is None else facts.held_out_in_words
    table = Table(
        caption=f"Subjects per fold{order}; {who}",
        header=("fold", "training", "selection", "held out"),
        rows=tuple(rows),
    )
    chosen = "Epoch and threshold are chosen on selection, and the held-out part is scored."
    if facts.metrics.protocol == "paper":
        chosen = "Training and selection part are trained on; the epoch is chosen on the held-out part that is scored."
    text = f"Folds are of subjects. {chosen} Folds have the hash {facts.metrics.splits_sha256[:16]}."
    return Section(key="splits", title="Splits", paragraphs=(text,), tables=(table,))


def learning(facts: RunFacts) -> Section:
    """How training went."""
    best = facts.metrics.best_epochs
    if not facts.learning_curves:
        return Section(key="learning", title="Learning curves", missing=("The checkpoints with the logs are gone.",))
    chosen = dict(zip((f"fold {fold}" for fold in range(len(best))), best, strict=True))
    figure = PageFigure(
        key="learning",
        uri=draw.draw_learning_curves(facts.learning_curves, [chosen.get(name) for name in facts.learning_curves]),
        caption="Loss over epochs; the point is the epoch that was best on selection"
        + (
            ", whose weights were judged."
            if facts.runs[0].settings.get("evaluate_with") != "final"
            else "; the last was judged."
        ),
        text="Training and selection loss of every fold over epochs.",
    )
    return Section(key="learning", title="Learning curves", figures=(figure,))


def results(facts: RunFacts) -> Section:
    """Scores and the figures of them."""
    metrics = facts.metrics
    lines = {name: facts.line_of(name) for name in metrics.scores}
    rows = tuple((lines[name].title, estimate(metrics.scores[name])) for name in lines if lines[name].in_report)
    by_fold_of = {line.within_fold for line in lines.values() if line.by_fold}
    table = Table(
        caption=f"Held-out scores with 95 % intervals from {metrics.resamples} resamples of subjects",
        header=("score", "value (interval)"),
        rows=rows,
    )
    by_fold = Table(
        caption="By fold: mean and standard deviation, and each",
        header=("score", "mean ± SD", *(f"fold {fold.fold}" for fold in metrics.folds)),
        rows=tuple(
            (
                name.replace("_", " "),
                f"{number(over.mean)} ± {number(over.standard_deviation)}",
                *(number(fold.scores[name]) for fold in metrics.folds),
            )
            for name, over in metrics.means_of_folds.items()
            if name in by_fold_of
        ),
    )
    return Section(
        key="results",
        title="Results",
        paragraphs=(*_of_a_hundred(facts), *metrics.notes),
        tables=(table, by_fold),
        figures=tuple(_result_figures(facts)),
    )


def calibration(facts: RunFacts) -> Section:
    """Whether probabilities can be believed, and whether acting on them helps."""
    title = "Calibration and decisions"
    if facts.binary is None:
        why = "Reliability and decision curves exist for two classes only, or the run was evaluated without them."
        return Section(key="calibration", title=title, missing=(why,))
    binary = facts.binary
    reliability = {
        "as trained": binary.reliability,
        "after temperature scaling": binary.reliability_after_temperature,
    }
    figures = (
        PageFigure(
            key="reliability",
            uri=draw.draw_reliability(reliability, facts.positive),
            caption="Reliability: observed against predicted share, bins of equal numbers, Wilson intervals.",
            text=f"Reliability plot of the probability of {facts.positive} before and after temperature scaling.",
        ),
        PageFigure(
            key="decision",
            uri=draw.draw_decision_curve(binary.decision_curve, facts.positive),
            caption="Decision curve of calibrated probabilities, at the cohort's share of positives.",
            text="Net benefit over thresholds, beside acting on everybody and on nobody.",
        ),
    )
    return Section(key="calibration", title=title, figures=figures)


def subgroups(facts: RunFacts) -> Section:
    """How the parts of the cohort fare."""
    name = f"AUC, {facts.together}" if facts.task.kind == "classification" else "mean absolute error"
    if len(facts.subgroups) < 2:
        return Section(key="subgroups", title="Subgroups", missing=("Age, sex and site are unknown.",))
    rows = tuple(
        (
            f"{group.column}: {group.value}",
            " / ".join(str(count) if count >= FEWEST else f"<{FEWEST}" for count in group.subjects_by_class),
            estimate(group.score) if group.score else "too few",
        )
        for group in facts.subgroups
    )
    order = " / ".join(facts.task.classes) or "subjects"
    table = Table(
        caption=f"Shown from {FEWEST} subjects per class on",
        header=("subgroup", order, name),
        rows=rows,
        flagged=frozenset(index for index, group in enumerate(facts.subgroups) if not group.score),
    )
    shown = [(f"{g.column}: {g.value}", g.score) for g in facts.subgroups if g.score]
    figures: tuple[PageFigure, ...] = ()
    if shown:
        primary = facts.metrics.primary_score
        uri = draw.draw_forest(shown, name, facts.line_of(primary).chance)
        figures = (PageFigure(key="subgroups", uri=uri, caption=name, text=f"{name} of every subgroup."),)
    return Section(key="subgroups", title="Subgroups", tables=(table,), figures=figures)


def baselines(facts: RunFacts) -> Section:
    """What simple models reach on the same folds."""
    primary = facts.metrics.primary_score
    name = facts.line_of(primary).title
    models: list[tuple[str, dict[str, Estimate], Estimate | None]] = [
        (facts.metrics.trainer, facts.metrics.scores, None)
    ]
    models += [(one.name, one.scores, one.gain_of_network) for one in facts.metrics.baselines]
    rows = tuple((model, estimate(scores[primary]), estimate(gain)) for model, scores, gain in models)
    table = Table(caption="On the same folds and resamples", header=("model", name, "gain of the network"), rows=rows)
    bars = [(model, scores[primary]) for model, scores, _ in models if scores[primary].low is not None]
    figures: tuple[PageFigure, ...] = ()
    if bars:
        uri = draw.draw_forest(bars, name, facts.line_of(primary).chance)
        figures = (PageFigure(key="baselines", uri=uri, caption=name, text="The network beside its baselines."),)
    return Section(key="baselines", title="Baselines", tables=(table,), figures=figures)


def comparison(facts: RunFacts) -> Section | None:
    """Other runs on the same folds, where adnext_compare has compared them."""
    if facts.comparison is None:
        return None
    pairs = facts.comparison["pairs"]
    tests = {"delong": "DeLong", "bootstrap": "bootstrap", "mcnemar": "McNemar", "corrected_t": "corrected t"}
    rows = tuple(
        (
            f"{pair['first']} – {pair['second']}",
            estimate(Estimate(**pair["tests"]["auc_difference"])),
            *(number(pair["p_holm"][test]) for test in tests),
            pair["conclusion"],
        )
        for pair in pairs
    )
    header = ("runs", "AUC difference", *(f"p, {name}" for name in tests.values()), "conclusion")
    caption = f"p values corrected by Holm's method for {len(pairs)} pairs of runs, test by test"
    table = Table(caption=caption, header=header, rows=rows)
    return Section(
        key="comparison", title="Comparison", tables=(table,), paragraphs=tuple(facts.comparison["warnings"])
    )


def _result_figures(facts: RunFacts) -> list[PageFigure]:
    figures = []
    if facts.roc is not None and facts.precision_recall is not None:
        shares = facts.people[facts.task.target].value_counts(normalize=True)
        chance = {name: float(shares.get(name.split(" against")[0], 0)) for name in facts.precision_recall}
        figures += [
            PageFigure(
                key="roc",
                uri=draw.draw_bands(facts.grid, facts.roc, ("1 – specificity", "sensitivity"), None),
                caption=f"ROC, {facts.together}, pointwise 95 % band over subjects.",
                text="ROC curve with its band.",
            ),
            PageFigure(
                key="precision-recall",
                uri=draw.draw_bands(facts.grid, facts.precision_recall, ("recall", "precision"), chance),
                caption=f"Precision and recall, {facts.together}; dotted: share of the class, which chance reaches.",
                text="Precision-recall curve with its band.",
            ),
        ]
    if facts.answers is not None:
        uri = draw.draw_dots(
            facts.answers.probabilities, facts.answers.is_positive, facts.answers.folds, facts.task.classes
        )
        caption = f"A dot per held-out subject: the probability of {facts.positive}, by class and fold."
        figures.append(PageFigure(key="dots", uri=uri, caption=caption, text=f"Probabilities of {facts.positive}."))
    if facts.confusion is not None:
        how = "at the folds' thresholds" if len(facts.task.classes) == 2 else "most probable class"
        uri = draw.draw_confusion(facts.confusion, facts.task.classes)
        figures.append(
            PageFigure(key="confusion", uri=uri, caption=f"Held-out subjects, {how}.", text="Confusion matrix.")
        )
    if facts.truth_and_prediction is not None:
        truth, predicted = facts.truth_and_prediction
        uri = draw.draw_values(truth, predicted, facts.task.column)
        text = f"Predicted against true {facts.task.column}."
        figures.append(PageFigure(key="values", uri=uri, caption="A point per held-out subject.", text=text))
    return figures


def _of_a_hundred(facts: RunFacts) -> tuple[str, ...]:
    """What the confusion matrix of two classes means, in people."""
    if facts.confusion is None or len(facts.task.classes) != 2:
        return ()
    negative, positive = facts.task.classes
    (_, wrongly), (_, rightly) = facts.confusion
    healthy, ill = facts.confusion.sum(axis=1)
    if not (healthy and ill):
        return ()
    return (
        f"At the folds' thresholds, of 100 {positive} {100 * rightly / ill:.0f} are found, and of 100 {negative} "
        f"{100 * wrongly / healthy:.0f} are wrongly called {positive}.",
    )


def _verdict(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return f"It cannot be tested: {gain.note or 'a fold lacks a class'}."
    if gain.low > 0:
        return "The interval is above 0: the network is better."
    if gain.high < 0:
        return "The interval is below 0: the network is worse."
    return "The interval contains 0: with this cohort they cannot be told apart."


def _ages(people: pd.DataFrame) -> str:
    known = people["age"].dropna() if "age" in people else pd.Series(dtype=float)
    if known.empty:
        return "unknown"
    missing = f", {len(people) - len(known)} unknown" if len(known) < len(people) else ""
    return f"{known.mean():.1f} ± {known.std():.1f} ({known.min():.0f} to {known.max():.0f}){missing}"


def _counts(people: pd.DataFrame, column: str) -> str:
    if column not in people:
        return "unknown"
    values = people[column].fillna("").astype(str).replace("", "unknown")
    return ", ".join(f"{count} {name}" for name, count in values.value_counts().items()) or "unknown"
