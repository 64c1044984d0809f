"""`report.html` of a segmentation: Dice of every class, how far cases lie apart, three of them, and other runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adnext_plugin.findings import Estimate
from adnext_plugin.report.facts import estimate, number
from adnext_plugin.report.page import Page, PageFigure, Section, Table, render
from adnext_plugin.report.segmentation_figures import draw_case, draw_dice


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """Dice of one class, or of the mean of classes.

    `dice` are of the cases that have one, `without` counts the others. `people` is how many were resampled.
    """

    name: str
    dice: np.ndarray
    without: int
    people: int
    mean: Estimate
    standard_deviation: float | None
    median: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownCase:
    """A held-out case to look at. `place` is best, median or worst; `dice` by class, the mean last.

    Volumes are in voxels, (Z, Y, X): `truth` and `called` hold labels, which `labels` name.
    """

    place: str
    fold: int
    dice: Mapping[str, float]
    image_zyx: np.ndarray
    truth_zyx: np.ndarray
    called_zyx: np.ndarray
    spacing_mm: tuple[float, float, float]
    labels: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SegmentationFacts:
    """All that the page says of a run.

    `classes`: the mean of classes last, if they are several. `unit`: what was resampled, "subject" or "case".
    `not_shown` says why one of the three cases is not on the page. `made_by`: what the plans say, in words.
    `comparison`: what adnext_compare wrote.
    """

    dataset: str
    trainer: str
    warning: str | None
    unit: str
    resamples: int
    folds: Sequence[int]
    missing_folds: Sequence[int]
    classes: Sequence[ClassLine]
    shown: Sequence[ShownCase]
    not_shown: Sequence[str]
    made_by: Sequence[tuple[str, str]]
    comparison: Mapping | None = None


def segmentation_html(facts: SegmentationFacts) -> str:
    """The whole page."""
    made = (_answer(facts), _dice(facts), _cases(facts), _comparison(facts), _provenance(facts))
    page = Page(
        title=f"{facts.dataset}, {facts.trainer}",
        subtitle="Segmentations of held-out cases, scored by nnU-Net's Dice. No case is named on this page.",
        warnings=(facts.warning,) if facts.warning else (),
        sections=tuple(section for section in made if section is not None),
    )
    return render(page)


def _answer(facts: SegmentationFacts) -> Section:
    last = facts.classes[-1]
    scored = f"{len(last.dice) + last.without} cases were held out once, by {_folds(facts.folds)}."
    interval = f", with a 95 % interval over {_units(facts)}" if last.mean.low is not None else ""
    paragraphs = [scored, f"Dice, {last.name}: {estimate(last.mean)}{interval}."]
    if facts.unit == "case":
        paragraphs.append("Nothing says whose cases they are, so that each counts as a person.")
    missing = _folds(facts.missing_folds) if facts.missing_folds else ""
    alerts = (f"Not there yet: {missing}. Their cases are not in any number here.",) if missing else ()
    return Section(key="question", title="Question and answer", alerts=alerts, paragraphs=tuple(paragraphs))


def _dice(facts: SegmentationFacts) -> Section:
    rows = tuple(
        (
            line.name,
            estimate(line.mean),
            number(line.standard_deviation),
            number(line.median),
            *(number(float(extreme(line.dice))) if len(line.dice) else "–" for extreme in (np.min, np.max)),
            str(len(line.dice)),
            str(line.without),
        )
        for line in facts.classes
    )
    table = Table(
        caption=f"Dice with 95 % intervals from {facts.resamples} resamples of {_units(facts)}",
        header=("class", "mean (interval)", "SD of cases", "median", "lowest", "highest", "cases", "without Dice"),
        rows=rows,
    )
    figure = PageFigure(
        key="dice",
        uri=draw_dice({line.name: line.dice for line in facts.classes}),
        caption="A point per held-out case; the box holds the middle half of them, its line is the median.",
        text="Dice of every held-out case by class.",
    )
    return Section(key="results", title="Results", tables=(table,), figures=(figure,))


def _cases(facts: SegmentationFacts) -> Section:
    measured = facts.classes[-1].name
    figures = tuple(
        PageFigure(
            key=f"case-{case.place}",
            uri=draw_case(
                case.image_zyx, case.truth_zyx, case.called_zyx, case.spacing_mm, labels=tuple(case.labels.values())
            ),
            caption=f"The {case.place} case by Dice, {measured}, of fold {case.fold}: {_by_class(case)}.",
            text=f"Three slices of the {case.place} case, with outlines of its structures.",
        )
        for case in facts.shown
    )
    labels = list(facts.shown[0].labels) if facts.shown else []
    colours = ", ".join(f"{name} in {colour}" for name, colour in zip(labels, COLOUR_WORDS, strict=False))
    text = (
        "Solid lines are the ground truth, dashed ones the prediction"
        f"{f' ({colours})' if colours else ''}. Slices are those with most of the structures, one across each axis of "
        "the image."
    )
    return Section(
        key="cases",
        title="Best, median and worst case",
        paragraphs=(text,) if figures else (),
        figures=figures,
        missing=tuple(facts.not_shown),
    )


COLOUR_WORDS = ("blue", "orange", "green", "violet", "brown")  # of `page_figures.COLOURS`


def _by_class(case: ShownCase) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in case.dice.items())


def _comparison(facts: SegmentationFacts) -> Section | None:
    if facts.comparison is None:
        return None
    rows = tuple(
        (
            f"{pair['first']} – {pair['second']}",
            one["name"],
            estimate(Estimate(**one["difference"])),
            number(one["wilcoxon_p"]),
            number(one["wilcoxon_p_holm"]),
            f"{one['first_better']} : {one['second_better']}",
        )
        for pair in facts.comparison["pairs"]
        for one in pair["classes"]
    )
    table = Table(
        caption=f"The same {facts.comparison['cases']} cases; p values corrected by Holm's method for all pairs",
        header=("runs", "class", "difference of Dice", "Wilcoxon p", "corrected", "better in cases"),
        rows=rows,
    )
    return Section(
        key="comparison", title="Comparison", tables=(table,), paragraphs=tuple(facts.comparison["warnings"])
    )


def _provenance(facts: SegmentationFacts) -> Section:
    table = Table(caption="What the run's plans say", header=("what", "value"), rows=tuple(facts.made_by))
    return Section(key="provenance", title="Provenance", tables=(table,))


def _folds(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(str(fold) for fold in folds)}"


def _units(facts: SegmentationFacts) -> str:
    return "subjects" if facts.unit == "subject" else "cases"
