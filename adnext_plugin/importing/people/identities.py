"""When two spellings mean the same person, the same visit, or the same time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.tables.cells import as_day, is_missing, known_number
from adnext_plugin.importing.tables.reading import read_rows

DAYS_PER_YEAR = 365.25
BASELINE = {"bl", "sc", "scmri", "baseline", "screening", "adni screening", "adni baseline", "mr1"}
MONTH = re.compile(r"(?:m|month|adni1/go month)[ _-]?(\d{1,4})", re.ASCII)
YEAR = re.compile(r"(?:y|year)[ _-]?(\d{1,2})", re.ASCII)
DAY = re.compile(r"(?:.*_)?d(\d{1,5})", re.ASCII)  # OASIS-3: d0129, OAS30001_MR_d0129
# Clinica writes ADNI's 002_S_0295 as ADNI002S0295, and OASIS-1's OAS1_0001 as OASIS10001
CLINICA_ADNI = re.compile(r"adni(\d{3}s\d{4,5})", re.ASCII)
CLINICA_OASIS = re.compile(r"oasis1(\d{4})", re.ASCII)
NUMBERED = re.compile(r"(\D*)(\d{1,9})", re.ASCII)
MAX_DAYS_SINCE_ENTRY = 100_000  # of anybody; a larger number is no number of days


def subject_key(text: str) -> str:
    """One form for the spellings of a person's id: `sub-01`, `1`; `002_S_0295`, `sub-ADNI002S0295`."""
    key = "".join(character for character in text.strip().lower().removeprefix("sub-") if character.isalnum())
    if match := CLINICA_ADNI.fullmatch(key):
        return match[1]
    if match := CLINICA_OASIS.fullmatch(key):
        return f"oas1{match[1]}"
    # spreadsheets drop the zeros in front of an id that is all digits
    return key.lstrip("0") or key if key.isdigit() else key


def session_key(text: str) -> str:
    """One form for the spellings of a visit: `M6`, `m06`, `ses-M006`; `bl`, `sc`, `M000`, OASIS's `MR1`."""
    months = session_months(text)
    key = text.strip().lower().removeprefix("ses-")
    if months is not None:
        return f"m{months:03d}"
    return key.lstrip("0") or key if key.isdigit() else key


def session_months(text: str) -> int | None:
    """Months since baseline that the name of a visit says, or None. ADNI images its baseline at screening."""
    key = text.strip().lower().removeprefix("ses-")
    if key in BASELINE:
        return 0
    if match := MONTH.fullmatch(key):
        return int(match[1])
    if match := YEAR.fullmatch(key):
        return 12 * int(match[1])
    return None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When something took place: on the calendar, since the person's entry into the study, both, or unknown."""

    calendar_day: int | None = None
    entry_day: int | None = None

    def days_after(self, other: "Moment") -> int | None:
        """Signed days from `other` to this, on the calendar where both have a date; None if they share no scale."""
        if self.calendar_day is not None and other.calendar_day is not None:
            return self.calendar_day - other.calendar_day
        if self.entry_day is not None and other.entry_day is not None:
            return self.entry_day - other.entry_day
        return None


def moment_of(session: str, date: str = "", days: str = "") -> Moment:
    """The time of a visit or scan from its session, its date and its days since entry, each "" where unknown."""
    entry_day = known_number(days)
    if entry_day is None:
        months = session_months(session)
        entry_day = None if months is None else months * DAYS_PER_YEAR / 12
    if entry_day is None and (match := DAY.fullmatch(session.strip().lower().removeprefix("ses-"))):
        entry_day = int(match[1])
    if entry_day is not None:
        entry_day = round(entry_day) if abs(entry_day) <= MAX_DAYS_SINCE_ENTRY else None
    return Moment(calendar_day=as_day(date), entry_day=entry_day)


def time_order(sessions: Iterable[tuple[str, Moment]], whose: str) -> list[float]:
    """Numbers that rise with the time of one person's sessions.

    Raises:
        TableError: neither dates nor visit names tell which came first.
    """
    sessions = list(sessions)
    for scale in ("calendar_day", "entry_day"):
        days = [getattr(moment, scale) for _, moment in sessions]
        if None not in days:
            return days
    if len({session_key(session) for session, _ in sessions}) == 1:
        return [0] * len(sessions)
    numbered = [NUMBERED.fullmatch(session.strip().lower()) for session, _ in sessions]
    if None in numbered or len({match[1] for match in numbered}) > 1:
        names = ", ".join(sorted({session or "(none)" for session, _ in sessions}))
        raise TableError(f"which session of {whose} came first is not known: {names}; choose with --where instead")
    return [int(match[2]) for match in numbered]


def read_same_people(path: Path) -> dict[str, str]:
    """Read which ids are one person: in every row the id to use, then that person's ids in other cohorts.

    Returns:
        `subject_key` of every id to the id to use.

    Raises:
        TableError: an id is given to two people.
    """
    person_of: dict[str, str] = {}
    for row in read_rows(path):
        person, *others = row.values()
        for name in (person, *others):
            if is_missing(name):
                if name is person:
                    raise TableError(f"{path}: a row has no id in its first column; give the id to use")
                continue
            earlier = person_of.setdefault(subject_key(name), person)
            if earlier != person:
                raise TableError(f"{path} says that {name} is {earlier} and also {person}; correct it")
    return person_of
