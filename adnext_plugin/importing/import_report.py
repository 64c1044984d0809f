"""What an import found and did, for the terminal and `import_report.json`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from adnext_plugin.importing.cases import Case
from adnext_plugin.importing.image_checks import doubt_notes
from adnext_plugin.importing.inclusion import Selection
from adnext_plugin.importing.scans import Source
from adnext_plugin.splits.design import PARTS
from adnext_plugin.splits.drawing import FOLDS
from adnext_plugin.subjects import FEWEST_OF_A_CLASS


def import_report(source: Source, selection: Selection, doubts: Mapping[str, dict] | None = None) -> dict:
    """Counts of scans, cases and subjects, what did not match, both ways, and what images leave open (by its kind)."""
    doubts = doubts or {}
    by_subject: dict[str, list[Case]] = defaultdict(list)
    for case in selection.cases:
        by_subject[case.subject_id].append(case)
    return {
        "scans_found": len(source.scans),
        "cases": len(selection.cases),
        "subjects": len(by_subject),
        "subjects_with_repeated_sessions": sum(len(cases) > 1 for cases in by_subject.values()),
        "cases_per_class": {name: sum(c.target == name for c in selection.cases) for name in selection.classes},
        "subjects_per_class": {
            name: sum(any(case.target == name for case in cases) for cases in by_subject.values())
            for name in selection.classes
        },
        **({"channels": _channels(source, selection)} if source.channels else {}),
        "positive_class": selection.classes[-1] if len(selection.classes) == 2 else None,
        "target_range": _range([case.target for case in selection.cases]),
        "sexes": dict(Counter(case.covariates.get("sex") or "unknown" for case in selection.cases)),
        "age_range_years": _range([case.covariates.get("age") for case in selection.cases]),
        "days_to_clinical_visit": _range([case.scan.gap_days for case in selection.cases]),
        "left_out_by_filter": selection.left_out,
        "unlabelled": list(selection.unlabelled),
        "rows_without_image": list(source.rows_without_image),
        "images_without_row": list(source.images_without_row),
        "unused_images": [*source.unused_images, *selection.unused_images],
        "headers": dict(doubts),
        "notes": [*source.notes, *selection.notes, *doubt_notes(doubts), *_few_people(selection)],
    }


def report_text(report: dict) -> str:
    """The report as lines for the terminal; long lists are cut, but for notes."""
    lines = []
    for key, value in report.items():
        if key == "headers":
            continue  # they are notes, too
        if key == "notes" and value:
            lines += [f"{'note':33} {note}" for note in value]
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {count}" for name, count in value.items()) or "none"
        elif isinstance(value, list) and value and isinstance(value[0], str):
            value = f"{len(value)} ({', '.join(value[:3])}{', ...' if len(value) > 3 else ''})"
        elif value is None or value == []:
            value = "none"
        lines.append(f"{key.replace('_', ' '):33} {value}")
    return "\n".join(lines)


def _channels(source: Source, selection: Selection) -> dict[str, int]:
    """How many cases have an image of each channel."""
    first, *others = source.channels
    counts = {name: sum(case.scan.further[i] is not None for case in selection.cases) for i, name in enumerate(others)}
    return {first: len(selection.cases), **counts}


def _few_people(selection: Selection) -> Iterator[str]:
    """Classes, or all where the target is a number, of so few people that folds or intervals cannot be had."""
    for name in selection.classes or (None,):
        cases = [case for case in selection.cases if case.target is not None and name in (None, case.target)]
        people = len({case.subject_id for case in cases})
        who = f"there are {people} subjects" if name is None else f"class {name} has {people} subjects"
        if cases and people < FOLDS:
            yield f"{who}, fewer than the {FOLDS} folds that planning draws; {_way_out(people, name is not None)}"
        if cases and people < FEWEST_OF_A_CLASS:
            yield f"{who}: scores get intervals, and runs are compared, from {FEWEST_OF_A_CLASS} on"


def _way_out(people: int, are_of_a_class: bool) -> str:
    """What can be done where so few people are to be shared out among folds."""
    # a fold needs somebody for each of its parts
    ways = [f"plan with --folds {people}"] if people >= len(PARTS) else []
    ways += ["join classes with --label-map"] if are_of_a_class else []
    return ", ".join([*ways, "or add subjects" if ways else "add subjects"])


def _range(values: list[str | float | None]) -> list[float] | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    return [min(numbers), max(numbers)] if numbers else None
