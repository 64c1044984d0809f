"""Which scans of a source become cases: filters, sessions, labels."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from adnext_plugin.choices import MissingChannel, SessionChoice
from adnext_plugin.errors import TableError
from adnext_plugin.importing.cases import Case, make_cases, refuse_two_ids
from adnext_plugin.importing.channels import missing_notes, refuse_other_people, settle_missing
from adnext_plugin.importing.covariates import Covariates
from adnext_plugin.importing.exclusion import Exclusion, without_excluded
from adnext_plugin.importing.people.identities import session_key, time_order
from adnext_plugin.importing.positive_class import in_order
from adnext_plugin.importing.scans import Scan, Source, require_scans
from adnext_plugin.importing.tables.cells import Condition, is_missing
from adnext_plugin.importing.targets import TargetRule

SHOWN = 5  # how many offenders a message lists
RARE = 5  # a misspelt class has so many times fewer scans than the one that is meant
Labelled = list[tuple[Scan, str | float | None]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the user wants of a source.

    `session`: all sessions of a subject, the first in time, or the one nearest to its clinical visit. `same_people`
    maps the `person_of` of an id to the id to use for that person. `may_have_two_ids`: one person may be there under
    several, since no folds will be made. `missing_channel`: what becomes of scans that lack a channel.
    `exclusions`: rows of a list of those to leave out, before a session is chosen.
    """

    conditions: Sequence[Condition] = ()
    session: SessionChoice = "all"
    keep: Sequence[str] = ()
    skip_unlabelled: bool = False
    same_people: Mapping[str, str] = field(default_factory=dict)
    may_have_two_ids: bool = False
    missing_channel: MissingChannel = "refuse"
    exclusions: Sequence[Exclusion] = ()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The cases, how many scans each filter left out, the scans without a target, and repeats that do not serve.

    `notes` are for the report.
    """

    cases: tuple[Case, ...]
    classes: tuple[str, ...] = ()
    left_out: dict[str, int]
    unlabelled: tuple[str, ...] = ()
    unused_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def select_cases(source: Source, rule: TargetRule | None, choice: Choice) -> Selection:
    """Choose and label the scans of a source.

    Args:
        source: the scans.
        rule: how a scan's target follows from its row; None to import without targets.
        choice: which scans and columns.

    Raises:
        TableError: nothing is left, a label is missing, unknown or contradicted, there are fewer than two classes or
            numbers, or one scan is listed twice.
    """
    require_scans(source)
    scans, left_out = _filtered(source, choice)
    if not scans:
        column = "" if rule is None else f" and the target column {rule.column!r}"
        raise TableError(
            f"no scan is left of {len(source.scans)}; check {'--exclude, ' if choice.exclusions else ''}--where{column}"
        )
    labelled: Labelled = [(scan, None if rule is None else rule.target_of(scan)) for scan in scans]
    _refuse_contradictions(labelled, source)
    labelled, unused = _without_repeats(labelled, rule) if source.has_repeats else (labelled, [])
    unlabelled: list[Scan] = []
    if rule is not None:
        unlabelled = [scan for scan, target in labelled if target is None]
        labelled = [(scan, target) for scan, target in labelled if target is not None]
        # a number in no bin is a choice of the user's; an empty label is more likely a gap in the table
        if unlabelled and not choice.skip_unlabelled and not rule.bins:
            raise _unlabelled_error(unlabelled, rule, source)
        if not labelled:
            raise TableError(f"no scan of {len(source.scans)} has a {rule.column}; check --where and the target column")
    if source.channels:
        refuse_other_people([scan for scan, _ in labelled], source.channels)
        labelled, without = settle_missing(labelled, source.channels, choice.missing_channel)
        left_out |= without
    covariates = Covariates(source, choice.keep)
    cases = make_cases(labelled, covariates, choice.same_people)
    if not choice.may_have_two_ids:
        refuse_two_ids(cases)
    classes = () if rule is None else _classes(labelled, rule)
    return Selection(
        cases=cases,
        classes=classes,
        left_out=left_out,
        notes=(
            *covariates.notes(),
            *_alike(classes, labelled),
            *missing_notes([case.scan for case in cases], source.channels),
        ),
        unlabelled=tuple(map(str, unlabelled)),
        unused_images=tuple(unused),
    )


def _filtered(source: Source, choice: Choice) -> tuple[list[Scan], dict[str, int]]:
    scans, left_out = list(source.scans), {}
    if choice.exclusions:
        scans = without_excluded(scans, choice.exclusions, choice.same_people)
        left_out["--exclude"] = len(source.scans) - len(scans)
    for condition in choice.conditions:
        passing = [scan for scan in scans if condition.holds(scan.row)]
        left_out[condition.text] = len(scans) - len(passing)
        scans = passing
    if choice.session != "all":
        chosen = _chosen_sessions(scans, choice.session)
        left_out[f"--session {choice.session}"] = len(scans) - len(chosen)
        scans = chosen
    return scans, left_out


def _chosen_sessions(scans: list[Scan], wanted: SessionChoice) -> list[Scan]:
    by_subject = defaultdict(list)
    for scan in scans:
        by_subject[scan.subject_id].append(scan)
    chosen = []
    for subject, own in by_subject.items():
        if wanted == "baseline":
            order = time_order([(scan.session_id, scan.moment) for scan in own], subject)
        else:
            unknown = [scan for scan in own if scan.gap_days is None]
            order = [scan.gap_days for scan in own if scan.gap_days is not None]
            if unknown:
                raise TableError(
                    f"--session closest: how far {unknown[0]} is from its clinical visit is not known; "
                    "give the visits with --clinical, and dates or days on both sides"
                )
        first = own[order.index(min(order))]
        # the repeats of the chosen session stay, to be reported as such
        chosen += [scan for scan in own if scan.session_id.lower() == first.session_id.lower()]
    return chosen


def _refuse_contradictions(labelled: Labelled, source: Source) -> None:
    first: dict[tuple[str, str], tuple[Scan, str | float]] = {}
    for scan, target in labelled:
        session = scan.session_id.lower() if source.has_repeats else session_key(scan.session_id)
        if target is None:
            continue
        earlier, other = first.setdefault((scan.subject_id, session), (scan, target))
        if other != target:
            raise TableError(
                f"{scan} is {other} by the row of {earlier.image} but {target} by that of {scan.image}; correct the "
                "table"
            )


def _without_repeats(labelled: Labelled, rule: TargetRule | None) -> tuple[Labelled, list[str]]:
    first: dict[tuple[str, str], Scan] = {}
    kept, unused = [], []
    for scan, target in labelled:
        earlier = first.setdefault((scan.subject_id, scan.session_id.lower()), scan)
        if earlier is scan:
            kept.append((scan, target))
            continue
        if rule is None or target is not None:
            _refuse_other_makeup(earlier, scan)
        unused.append(str(scan.image))
    return kept, unused


def _refuse_other_makeup(one: Scan, other: Scan) -> None:
    differing = [name for name, value in one.makeup.items() if other.makeup.get(name) != value]
    if differing:
        name = differing[-1]
        first, second = one.row[name], other.row[name]
        raise TableError(
            f"{one} has images that differ in {' and '.join(differing)}: {first!r} ({one.image.name}) and {second!r} "
            f"({other.image.name}); choose with --where '{name}=={first}', or with a part of it: --where '{name}~PART'"
        )


def _unlabelled_error(unlabelled: list[Scan], rule: TargetRule, source: Source) -> TableError:
    names = ", ".join(map(str, unlabelled[:SHOWN])) + (", ..." if len(unlabelled) > SHOWN else "")
    count = f"{len(unlabelled)} scans have no {rule.column}: {names}"
    cdr = source.columns.get("cdr")
    # Clinica's converter of OASIS-1 writes n/a as the diagnosis of everybody whose rating is above 0
    if cdr not in (None, rule.column) and any(not is_missing(scan.row.get(cdr, "")) for scan in unlabelled):
        return TableError(f"{count}; their dementia rating is known, so take the label from it: --from-cdr {cdr}")
    return TableError(f"{count}; complete the table, or leave them out with --skip-unlabelled")


def _classes(labelled: Labelled, rule: TargetRule) -> tuple[str, ...]:
    present = Counter(target for _, target in labelled)
    if rule.is_number:
        if len(present) < 2:
            raise TableError(f"{rule.column} is {labelled[0][1]} for every scan; there is nothing to predict")
        return ()
    classes = rule.classes or tuple(sorted(str(name) for name in present))
    if not rule.classes:
        _refuse_one_class_in_two_spellings(classes, present, rule)
    if len(classes) < 2 or any(present[name] == 0 for name in classes):
        raise TableError(
            f"at least two classes are needed, each with scans, but {rule.column} gives "
            f"{', '.join(f'{present[name]} {name}' for name in classes)}"
        )
    if rule.positive is not None or not rule.classes:
        return in_order(classes, rule.column, rule.positive)
    return classes


def _refuse_one_class_in_two_spellings(classes: Sequence[str], present: Counter, rule: TargetRule) -> None:
    first: dict[str, str] = {}
    for name in classes:
        # -1 and 1 are two classes
        letters = "".join(character for character in name.casefold() if character.isalnum())
        is_word = any(character.isalpha() for character in letters)
        other = first.setdefault(letters if is_word else name, name)
        if other != name:
            raise TableError(
                f"{rule.column} is {other!r} for {present[other]} scans and {name!r} for {present[name]}, which looks "
                f"like one class in two spellings; join them with --label-map {other},{name}={other} and so on, or "
                "name each as its own"
            )


def _alike(classes: Sequence[str], labelled: Labelled) -> Iterator[str]:
    """Point out a rare class whose name is nearly that of a common one."""
    counts = Counter(target for _, target in labelled)
    for name in classes:
        near = get_close_matches(name, [other for other in classes if counts[other] >= RARE * counts[name]], 1, 0.75)
        if near and len(name) >= 4:  # of shorter ones MCI and CMI are alike, too
            yield (
                f"class {name!r} ({counts[name]} scans) may be a misspelt {near[0]!r} ({counts[near[0]]} scans); if "
                "so, join them with --label-map"
            )
