"""Spellings of people, visits and times that mean the same."""

import pytest

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import (
    Moment,
    moment_of,
    read_same_people,
    session_key,
    session_months,
    time_order,
)
from adnext_plugin.importing.tables.cells import known_number
from adnext_plugin.importing.tables.dates import as_day
from adnext_plugin.people import person_of


@pytest.mark.parametrize(
    "spellings",
    [
        ("M6", "M06", "M006", "m06", "ses-M006", "ses-M06", "Month 6"),
        ("bl", "sc", "M0", "M00", "ses-M000", "scmri", "ADNI Screening", "MR1"),
        ("m12", "ses-M012", "y1"),
        ("1", "01", "ses-1", "ses-01"),
        ("", ""),
    ],
)
def test_spellings_of_a_visit_are_one_visit(spellings: tuple[str, ...]) -> None:
    assert len({session_key(text) for text in spellings}) == 1


def test_different_visits_stay_different() -> None:
    names = ["bl", "m06", "m60", "m12", "MR2", "ses-1", "ses-10", "ADNI2 Year 1 Visit", "d0129", "d1290", ""]
    assert len({session_key(name) for name in names}) == len(names)
    # counted from the entry into ADNI2, which for most was years after baseline
    assert session_months("ADNI2 Year 1 Visit") is None


def test_spellings_of_a_person_are_one_person_and_others_are_not() -> None:
    assert person_of("002_S_0295") == person_of("sub-ADNI002S0295")
    assert person_of("OAS1_0001") == person_of("sub-OASIS10001")
    assert person_of("sub-01") == person_of("1") == person_of("01")
    assert len({person_of(name) for name in ("sub-1", "sub-11", "sub-10", "002_S_0295", "002_S_02951")}) == 5


def test_dates_days_and_months_are_put_on_the_scale_they_share() -> None:
    scan = moment_of("ADNI Screening", "11/2/2006")
    visit = moment_of("m06", "2007-05-01 00:00:00")
    assert visit.days_after(scan) == 180  # by date although both have months, too
    assert moment_of("ses-d0129").days_after(moment_of("OAS30001_UDSb4_d0339", days="0339")) == -210
    assert Moment(calendar_day=1).days_after(Moment(entry_day=1)) is None
    assert as_day("2006-02-30") is None and as_day("13/02/2006") is None
    assert known_number("n/a") is None and known_number("1_000") is None and known_number("inf") is None


def test_sessions_are_ordered_by_date_then_months_then_number_and_never_by_alphabet() -> None:
    assert time_order([("b", moment_of("b", "2001-01-02")), ("a", moment_of("a", "2001-01-01"))], "s") == [
        730487,
        730486,
    ]
    months = [(name, moment_of(name)) for name in ("m12", "m06", "bl")]
    assert sorted(time_order(months, "s")) == time_order(reversed(months), "s")
    assert time_order([(name, Moment()) for name in ("ses-10", "ses-9")], "s") == [10, 9]
    with pytest.raises(TableError, match="which session of s came first is not known: post, pre"):
        time_order([("pre", Moment()), ("post", Moment())], "s")


def test_ids_of_one_person_are_read_and_contradictions_refused(tree) -> None:
    root = tree(
        {
            "ids.csv": [("person", "adni", "oasis"), ("P1", "002_S_0295", "OAS1_0001"), ("P2", "", "OAS1_0002")],
            "bad.csv": [("person", "other"), ("P1", "a"), ("P2", "a")],
        }
    )
    people = read_same_people(root / "ids.csv")
    assert people[person_of("sub-ADNI002S0295")] == people[person_of("OAS1_0001")] == "P1"
    with pytest.raises(TableError, match="a is P1 and also P2"):
        read_same_people(root / "bad.csv")
