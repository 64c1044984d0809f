"""Large tables take as many steps per row as small ones. Counted, not timed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adnext_plugin.importing.image_files import Finder
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.scans import Source
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.sources.loni import read_loni_source
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.joining import join_table
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.importing.targets import TargetRule

SMALL, LARGE = 150, 600


def _steps(work: Callable[[], Source], count: int) -> int:
    """Calls of functions, those of C included, until the cases are chosen."""
    steps = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        selection = select_cases(work(), TargetRule(column="dx"), Choice())
    finally:
        sys.setprofile(None)
    assert len(selection.cases) == count
    return steps


def _clinical(count: int) -> list[tuple[str, ...]]:
    return [("subject", "age", "sex", "dx"), *((f"{n:05d}", "70", "F", ["CN", "AD"][n % 2]) for n in range(count))]


def _table(tree: Callable, count: int) -> Callable[[], Source]:
    files = {f"images/x{n:05d}-T1.nii.gz": "" for n in range(count)}
    scans = [("subject", "session", "date"), *((f"{n:05d}", "M00", "2010-01-20") for n in range(count))]
    root = tree({"t.csv": scans, "c.csv": _clinical(count), **files})
    options = TableOptions(table=root / "t.csv", images=root / "images", image_pattern="x{subject}*.nii.gz")
    return lambda: join_table(read_table_source(options), read_table(root / "c.csv"), by_time=False)


def _bids(tree: Callable, count: int) -> Callable[[], Source]:
    files: dict = {f"sub-{n:05d}/anat/sub-{n:05d}_T1w.nii.gz": "" for n in range(count)}
    rows = [(f"sub-{row[0]}", *row[1:]) for row in _clinical(count)[1:]]
    root = tree({"participants.tsv": [("participant_id", "age", "sex", "dx"), *rows], **files})
    return lambda: read_bids_source(BidsOptions(root=root))


def _loni(tree: Callable, count: int) -> Callable[[], Source]:
    header = ("Image Data ID", "Subject", "Visit", "Acq Date", "Description", "dx")
    rows = [(f"I{n}", f"002_S_{n:04d}", "bl", "4/18/2006", "MPRAGE", ["CN", "AD"][n % 2]) for n in range(count)]
    root = tree({"l.csv": [header, *rows], **{f"ADNI/{row[1]}/{row[0]}/x_{row[0]}.nii": "" for row in rows}})
    return lambda: read_loni_source(root / "l.csv", root / "ADNI")


@pytest.mark.parametrize("source", [_table, _bids, _loni])
def test_four_times_the_rows_take_four_times_the_steps(tree: Callable, source: Callable) -> None:
    def within(folder: str) -> Callable[[dict], Path]:
        return lambda files: tree({f"{folder}/{name}": content for name, content in files.items()}) / folder

    small = _steps(source(within("small"), SMALL), SMALL)
    large = _steps(source(within("large"), LARGE), LARGE)
    assert large < 1.15 * (LARGE / SMALL) * small


def test_patterns_find_what_a_glob_finds(tree: Callable) -> None:
    names = ["a/x1.nii", "a/x10.nii", "b/x1.nii", "b/c/x1.nii.gz", "a/.x1.nii", "a/[1].nii", "x1.nii"]
    root = tree(dict.fromkeys(names, ""))
    for pattern in (
        "*",
        "*/x1*",
        "?/x1.nii",
        "a/[[]1].nii",
        "a/*.nii",
        "b/*/x1.nii.gz",
        "**/x1.nii",
        "none/*",
        "a/x1.nii",
    ):
        assert Finder().find(root, pattern) == sorted(root.glob(pattern)), pattern
