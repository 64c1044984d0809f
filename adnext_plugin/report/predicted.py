"""A page on predicted scans: each as the network saw it, what it was called and how sure, and warnings in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adnext_plugin.report.page import Page, PageFigure, Section, Table, render

MOST = 300  # scans on one page


@dataclass(frozen=True, kw_only=True)
class PredictedScan:
    """A scan: its name, a picture as data URI, and answers; `error` says why there are none.

    `answers`: probabilities by class, or one number by the target's name. `called`: a class; None for a number.
    """

    name: str
    picture: str = ""
    answers: Mapping[str, float]
    called: str | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class PredictionFacts:
    """Scans, the model in words, its stamps, from which probability on the last of two classes is called.

    `held_out`: what the model's networks said of people whom they had not seen, by true class: probabilities of the
    last class; for a number, the numbers under the target's name. Empty where that is not known.
    """

    scans: Sequence[PredictedScan]
    model: str
    notice: str
    stamps: tuple[str, ...] = ()
    threshold: float | None = None
    held_out: Mapping[str, np.ndarray]


def prediction_page(facts: PredictionFacts) -> str:
    """The page as HTML."""
    shown = facts.scans[:MOST]
    sections = [_overview(facts, len(shown)), *(_section(index, scan, facts) for index, scan in enumerate(shown))]
    page = Page(title="Predictions", subtitle=facts.model, warnings=facts.stamps, sections=tuple(sections))
    return render(page)


def _overview(facts: PredictionFacts, shown: int) -> Section:
    warned = sum(bool(scan.warnings) for scan in facts.scans)
    failed = sum(bool(scan.error) for scan in facts.scans)
    counts = f"{len(facts.scans)} scans, {warned} with warnings, {failed} failed."
    if shown < len(facts.scans):
        counts += f" The first {shown} are shown; predictions.csv has all."
    rows = tuple((scan.name, _answer(scan, facts), str(len(scan.warnings) or "")) for scan in facts.scans[:shown])
    flagged = frozenset(index for index, scan in enumerate(facts.scans[:shown]) if scan.warnings or scan.error)
    table = Table(caption="All scans", header=("scan", "answer", "warnings"), rows=rows, flagged=flagged)
    return Section(key="overview", title="Overview", paragraphs=(facts.notice, counts), tables=(table,))


def _section(index: int, scan: PredictedScan, facts: PredictionFacts) -> Section:
    figures: tuple[PageFigure, ...] = ()
    if scan.picture:
        caption = "As the network saw it. The patient's left is on the left, the front on top or on the right."
        figures = (
            PageFigure(key=f"scan-{index}", uri=scan.picture, caption=caption, text=f"{scan.name}: three planes."),
        )
    paragraphs = [_answer(scan, facts)] if not scan.error else []
    if not scan.error and (place := _place(scan, facts)):
        paragraphs.append(place)
    return Section(
        key=f"scan-{index}-of-page",
        title=scan.name,
        alerts=(f"It could not be predicted: {scan.error}",) if scan.error else scan.warnings,
        paragraphs=tuple(paragraphs),
        figures=figures,
    )


def _answer(scan: PredictedScan, facts: PredictionFacts) -> str:
    if scan.error:
        return "failed"
    if scan.called is None:
        ((name, value),) = scan.answers.items()
        return f"{name} {value:.1f}"
    if facts.threshold is None:
        return f"{scan.called}, with probability {scan.answers[scan.called]:.2f}"
    last = list(scan.answers)[-1]
    return f"{scan.called}: probability of {last} {scan.answers[last]:.2f}, called {last} from {facts.threshold:.2f} on"


def _place(scan: PredictedScan, facts: PredictionFacts) -> str:
    """Where the answer lies among those of held-out people."""
    if not facts.held_out:
        return ""
    value = list(scan.answers.values())[-1]
    shares = [
        f"{np.mean(values < value):.0%} of {len(values)} held-out {name}"
        if scan.called is not None
        else f"{np.mean(values < value):.0%} of {len(values)} held-out people"
        for name, values in facts.held_out.items()
    ]
    return f"That is more than for {' and '.join(shares)}, by the one network that had not seen them."
