"""When two spellings mean the same visit or the same time; and whom the user says to be one person."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.tables.cells import is_missing, known_number
from adnext_plugin.importing.tables.dates import DateColumn, as_day
from adnext_plugin.importing.tables.reading import read_rows
from adnext_plugin.people import person_of

DAYS_PER_YEAR = 365.25
BASELINE = {"bl", "sc", "scmri", "baseline", "screening", "adni screening", "adni baseline", "mr1"}
MONTH = re.compile(r"(?:m|month|adni1/go month)[ _-]?(\d{1,4})", re.ASCII)
YEAR = re.compile(r"(?:y|year)[ _-]?(\d{1,2})", re.ASCII)
DAY = re.compile(r"(?:.*_)?d(\d{1,5})", re.ASCII)  # OASIS-3: d0129, OAS30001_MR_d0129
NUMBERED = re.compile(r"(\D*)(\d{1,9})", re.ASCII)
MAX_DAYS_SINCE_ENTRY = 100_000  # of anybody; a larger number is no number of days


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
    """When something took place: on the calendar, since the person's entry into the study, both, or unknown.

    `doubt` says why a date that is there cannot be read.
    """

    calendar_day: int | None = None
    entry_day: int | None = None
    doubt: str = ""

    @property
    def has_date(self) -> bool:
        """Whether a date is there, be it readable or not."""
        return self.calendar_day is not None or self.doubt != ""

    def days_after(self, other: "Moment") -> int | None:
        """Signed days from `other` to this, on the calendar where both have a date; None if they share no scale.

        Raises:
            TableError: both have a date, and one cannot be read.
        """
        if self.calendar_day is not None and other.calendar_day is not None:
            return self.calendar_day - other.calendar_day
        if self.has_date and other.has_date:
            raise TableError(self.doubt or other.doubt)
        if self.entry_day is not None and other.entry_day is not None:
            return self.entry_day - other.entry_day
        return None


def moment_of(session: str, date: str = "", days: str = "", dates: DateColumn | None = None) -> Moment:
    """The time of a visit or scan from its session, its date and its days since entry, each "" where unknown.

    `dates` is the column that the date is from; without it 11/2/2006 is in November.
    """
    entry_day = known_number(days)
    if entry_day is None:
        months = session_months(session)
        entry_day = None if months is None else months * DAYS_PER_YEAR / 12
    if entry_day is None and (match := DAY.fullmatch(session.strip().lower().removeprefix("ses-"))):
        entry_day = int(match[1])
    if entry_day is not None:
        entry_day = round(entry_day) if abs(entry_day) <= MAX_DAYS_SINCE_ENTRY else None
    if dates is None:
        return Moment(calendar_day=as_day(date), entry_day=entry_day)
    return Moment(calendar_day=dates.day(date), entry_day=entry_day, doubt=dates.doubt(date))


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
    doubts = [moment.doubt for _, moment in sessions if moment.doubt]
    if len({session_key(session) for session, _ in sessions}) == 1:
        return [0] * len(sessions)
    found = (NUMBERED.fullmatch(session.strip().lower()) for session, _ in sessions)
    numbered = [match for match in found if match is not None]
    if len(numbered) < len(sessions) or len({match[1] for match in numbered}) > 1:
        if doubts:
            raise TableError(doubts[0])
        names = ", ".join(sorted({session or "(none)" for session, _ in sessions}))
        raise TableError(f"which session of {whose} came first is not known: {names}; choose with --where instead")
    return [int(match[2]) for match in numbered]


def read_same_people(path: Path) -> dict[str, str]:
    """Read which ids are one person: in every row the id to use, then that person's ids in other cohorts.

    Returns:
        `person_of` of every id to the id to use.

    Raises:
        TableError: an id is given to two people.
    """
    people: dict[str, str] = {}
    for row in read_rows(path):
        person, *others = row.values()
        for name in (person, *others):
            if is_missing(name):
                if name is person:
                    raise TableError(f"{path}: a row has no id in its first column; give the id to use")
                continue
            earlier = people.setdefault(person_of(name), person)
            if earlier != person:
                raise TableError(f"{path} says that {name} is {earlier} and also {person}; correct it")
    return people
