"""Lists of people and sessions to leave out of an import."""

from pathlib import Path

import pytest

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.exclusion import read_exclusions
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.people.identities import moment_of
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.people import person_of


def _source() -> Source:
    visits = [("p1", "M00"), ("p1", "M12"), ("p2", "M00"), ("=p3", "M00"), ("p4", "")]
    return Source(
        scans=tuple(
            Scan(image=Path(f"{who}{when}.nii.gz"), subject_id=who, session_id=when, row={}, moment=moment_of(when))
            for who, when in visits
        )
    )


def _kept(folder: Path, text: str, **choice) -> list[str]:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    selection = select_cases(_source(), None, Choice(exclusions=read_exclusions(path), **choice))
    return [str(case.scan) for case in selection.cases]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("subject_id\np1\n", ["p2 M00", "=p3 M00", "p4"]),
        ("subject_id,session_id\np1,M12\n", ["p1 M00", "p2 M00", "=p3 M00", "p4"]),
        ("case_id;session_id;subject_id;reasons\nx;;p4;a\nx;M00;'=p3;b\n", ["p1 M00", "p1 M12", "p2 M00"]),
        ("subject_id,session_id\np2,\np2,M00\n", ["p1 M00", "p1 M12", "=p3 M00", "p4"]),
    ],
)
def test_people_and_sessions_of_a_list_are_left_out(text: str, kept: list[str], tmp_path: Path) -> None:
    assert _kept(tmp_path, text) == kept


def test_the_next_session_is_chosen_where_the_first_is_excluded(tmp_path: Path) -> None:
    kept = _kept(tmp_path, "subject_id,session_id\np1,M00\n", session="baseline")
    assert kept == ["p1 M12", "p2 M00", "=p3 M00", "p4"]


def test_a_person_is_found_by_the_id_that_the_dataset_has_for_them(tmp_path: Path) -> None:
    same = {person_of("p2"): "X7"}
    assert _kept(tmp_path, "subject_id\nX7\n", same_people=same) == ["p1 M00", "p1 M12", "=p3 M00", "p4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject_id\np1\nP9\n", "row 2: there is no scan of subject 'P9'; correct the row or delete it"),
        ("subject_id,session_id\np1,M24\n", "no scan of subject 'p1', session 'M24'"),
        ("case_id\np1_M00\n", "has no column subject_id; save the list from quality.html"),
        ("subject_id,session_id\n,M00\n", "row 1 names no subject_id"),
        ("subject_id\np1\np2\n=p3\np4\n", "no scan is left of 5; check --exclude"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message.replace("(", r"\(")):
        _kept(tmp_path, text)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathsError, match=r"none\.csv"):
        read_exclusions(tmp_path / "none.csv")
