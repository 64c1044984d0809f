"""Nobody gets another's row, another's image or a number that nobody wrote: what used to be silently wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adnext_plugin.errors import TableError
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.people.identities import Moment, moment_of, time_order
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.sources.loni import read_loni_source
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.cells import CellRules, Condition, parse_missing, parse_replacements
from adnext_plugin.importing.tables.dates import DateColumn, as_day
from adnext_plugin.importing.tables.joining import join_table
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.importing.tables.reading import read_rows
from adnext_plugin.importing.targets import TargetRule, parse_bins, resolve_column
from adnext_plugin.people import person_of

Tree = Callable[[dict], Path]
LABEL = TargetRule(column="dx")


def _t1(*names: str) -> dict[str, str]:
    """Images of subjects, or of `subject/session`."""
    files = {}
    for name in names:
        subject, _, session = name.partition("/")
        stem = f"{subject}_{session}" if session else subject
        files[f"{name}/anat/{stem}_T1w.nii.gz"] = ""
    return files


def _found(source: Source, *columns: str) -> dict[str, tuple[str, ...]]:
    return {str(scan): tuple(scan.row.get(column, "") for column in columns) for scan in source.scans}


# 1: BIDS


def test_a_folder_without_a_row_does_not_take_that_of_a_folder_which_has_it_to_the_letter(tree: Tree) -> None:
    root = tree(
        {
            "participants.tsv": [("participant_id", "dx", "age"), ("sub-001", "AD", "80"), ("sub-02", "CN", "60")],
            **_t1("sub-01", "sub-001", "sub-02"),
        }
    )
    source = read_bids_source(BidsOptions(root=root))
    assert _found(source, "dx", "age") == {"sub-001": ("AD", "80"), "sub-02": ("CN", "60")}
    assert [Path(path).name for path in source.images_without_row] == ["sub-01_T1w.nii.gz"]


def test_the_same_holds_for_phenotypes_sessions_and_a_folder_whose_own_image_is_missing(tree: Tree) -> None:
    root = tree(
        {
            "participants.tsv": [("participant_id", "dx"), ("sub-01", "CN"), ("sub-001", "AD"), ("sub-02", "CN")],
            "phenotype/mmse.tsv": [("participant_id", "mmse"), ("sub-001", "20"), ("2", "29")],
            "sub-02/sub-02_sessions.tsv": [("session_id", "cdr"), ("ses-01", "1"), ("ses-M012", "0")],
            "sub-001/func/x.nii.gz": "",  # it has the row, though no image of the head
            **_t1("sub-01", "sub-02/ses-1", "sub-02/ses-01", "sub-02/ses-M12"),
        }
    )
    found = _found(read_bids_source(BidsOptions(root=root)), "dx", "mmse", "cdr")
    assert found == {
        "sub-01": ("CN", "", ""),
        "sub-02 ses-01": ("CN", "29", "1"),
        "sub-02 ses-1": ("CN", "29", ""),
        "sub-02 ses-M12": ("CN", "29", "0"),  # one folder and one row are still found under two spellings
    }


def test_two_folders_that_could_claim_one_row_both_go_without_and_so_does_one_folder_with_two_rows(tree: Tree) -> None:
    root = tree(
        {
            "participants.tsv": [("participant_id", "dx"), ("1", "AD"), ("02", "CN"), ("002", "AD"), ("3", "CN")],
            **_t1("sub-01", "sub-001", "sub-2", "sub-03"),
        }
    )
    source = read_bids_source(BidsOptions(root=root))
    assert _found(source, "dx") == {"sub-03": ("CN",)}
    assert len(source.images_without_row) == 3 and source.rows_without_image == ("002", "02", "1")


# 2: ids that differ in punctuation


@pytest.mark.parametrize(("own", "others"), [("1-11", "11-1"), ("1_101", "11_01"), ("A1-12", "A11-2"), ("111", "1.11")])
def test_a_scan_does_not_get_the_row_of_an_id_that_has_its_separators_elsewhere(
    tree: Tree, own: str, others: str
) -> None:
    root = tree(
        {
            "t.csv": [("subject", "file"), (own, "1.nii.gz"), ("7", "2.nii.gz")],
            "c.csv": [("subject", "dx"), (others, "AD"), ("07", "CN")],
            "ids.csv": [("person", "other"), ("P", others)],
        }
    )
    joined = join_table(
        read_table_source(TableOptions(table=root / "t.csv")), read_table(root / "c.csv"), by_time=False
    )
    assert _found(joined, "dx") == {"7": ("CN",)} and joined.images_without_row == (str(root / "1.nii.gz"),)


def test_the_spellings_of_one_adni_or_oasis_id_still_meet(tree: Tree) -> None:
    root = tree(
        {
            "t.csv": [("subject", "file"), ("sub-ADNI002S0295", "1"), ("OAS1_0001_MR1", "2"), ("sub-P01", "3")],
            "c.csv": [("subject", "dx"), ("002_S_0295", "AD"), ("OAS1_0001", "CN"), ("P-01", "MCI")],
        }
    )
    joined = join_table(
        read_table_source(TableOptions(table=root / "t.csv")), read_table(root / "c.csv"), by_time=False
    )
    assert [scan.row["dx"] for scan in joined.scans] == ["AD", "CN", "MCI"]


# 3: images that are no repeats


def _bids_session(tree: Tree, *entities: str) -> Path:
    return tree(
        {
            "participants.tsv": [("participant_id", "dx"), ("sub-1", "AD"), ("sub-2", "CN")],
            **{f"sub-1/anat/sub-1{name}_T1w.nii.gz": "" for name in entities},
            "sub-2/anat/sub-2_T1w.nii.gz": "",
        }
    )


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (("_mod-T1w", "_mod-T2w"), r"sub-1 has images that differ in mod: .*--entity mod=T1w or --entity mod=T2w"),
        (("_echo-1", "_echo-2"), r"differ in echo: echo-1, echo-2; choose with --entity echo=1"),
        (("_inv-1", "_inv-2"), r"differ in inv"),
        (("_chunk-1", "_chunk-2"), r"differ in chunk"),
        (("_acq-mprage", "_acq-spgr"), r"differ in acq"),
        (("", "_rec-norm"), r"differ in rec: none of these, rec-norm; choose with --entity rec=none"),
        (("_ce-gd", "_ce-other"), r"differ in ce"),
        (("", "_part-mag"), r"differ in part"),
    ],
)
def test_bids_images_that_differ_in_more_than_the_run_are_never_chosen_for_the_user(
    tree: Tree, entities: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read_bids_source(BidsOptions(root=_bids_session(tree, *entities)))


@pytest.mark.parametrize(
    ("entities", "chosen", "note"),
    [
        (("_part-imag", "_part-mag", "_part-phase"), "sub-1_part-mag_T1w.nii.gz", "magnitude images were taken"),
        (("_ce-gadolinium", ""), "sub-1_T1w.nii.gz", "images without contrast agent were taken"),
        (("_ce-gadolinium_part-mag", "_part-imag", "_part-mag"), "sub-1_part-mag_T1w.nii.gz", "without contrast"),
    ],
)
def test_magnitude_without_contrast_agent_is_the_one_safe_choice_and_stands_in_the_report(
    tree: Tree, entities: tuple[str, ...], chosen: str, note: str
) -> None:
    source = read_bids_source(BidsOptions(root=_bids_session(tree, *entities)))
    assert [scan.image.name for scan in source.scans] == [chosen, "sub-2_T1w.nii.gz"]
    assert any(note in line and "1 sessions, the first sub-1" in line for line in source.notes)
    assert len(source.unused_images) == len(entities) - 1


def test_a_phase_image_alone_is_no_scan_and_runs_are_repeats(tree: Tree) -> None:
    source = read_bids_source(BidsOptions(root=_bids_session(tree, "_part-phase")))
    assert [scan.subject_id for scan in source.scans] == ["sub-2"] and len(source.unused_images) == 1
    source = read_bids_source(BidsOptions(root=_bids_session(tree, "_run-1", "_run-2")))
    selection = select_cases(source, LABEL, Choice())
    assert [Path(path).name for path in selection.unused_images] == ["sub-1_run-2_T1w.nii.gz"]


def test_an_entity_may_be_chosen_by_preference_and_the_report_has_the_choice(tree: Tree) -> None:
    root = _bids_session(tree, "_acq-spgr", "_acq-mprage")
    source = read_bids_source(BidsOptions(root=root, entities={"acq": "mprage,none"}))
    assert [scan.image.name for scan in source.scans] == ["sub-1_acq-mprage_T1w.nii.gz", "sub-2_T1w.nii.gz"]
    assert "images were chosen by --entity acq=mprage,none" in source.notes


LONI = ("Image Data ID", "Subject", "Group", "Visit", "Modality", "Description", "Type", "Acq Date")


def _loni(tree: Tree, rows: Sequence[tuple[str, ...]]) -> Source:
    root = tree(
        {
            "list.csv": [LONI, *((row[0], row[1], "CN", row[2], "MRI", *row[3:]) for row in rows)],
            **{f"ADNI/{row[1]}/{row[0]}/x_{row[0]}.nii": "" for row in rows},
        }
    )
    return read_loni_source(root / "list.csv", root / "ADNI")


def test_a_t2_scan_and_a_mask_are_no_repeats_of_the_mprage_in_a_loni_download(tree: Tree) -> None:
    rows = [
        ("I10", "002_S_0295", "bl", "Axial PD/T2 FSE", "Original", "4/18/2006"),
        ("I20", "002_S_0295", "bl", "MPRAGE", "Original", "4/18/2006"),
        ("I30", "002_S_0295", "bl", "Hippocampal Mask", "Processed", "4/18/2006"),
        ("I40", "002_S_0413", "bl", "MPRAGE", "Original", "4/18/2006"),
    ]
    source = _loni(tree, rows)
    with pytest.raises(
        TableError,
        match=r"002_S_0295 bl has images that differ in Description: 'Axial PD/T2 FSE' \(x_I10.nii\) and 'MPRAGE' "
        r"\(x_I20.nii\); choose with --where 'Description==Axial PD/T2 FSE'",
    ):
        select_cases(source, None, Choice())
    for condition in ("Description==MPRAGE", "Description~mprage"):
        selection = select_cases(source, None, Choice(conditions=[Condition.parse(condition)]))
        assert [case.scan.image.name for case in selection.cases] == ["x_I20.nii", "x_I40.nii"]


def test_processing_that_differs_is_refused_and_the_second_scan_of_a_visit_is_a_repeat(tree: Tree) -> None:
    first = ("I10", "002_S_0295", "bl", "MPR; GradWarp; N3; Scaled", "Processed", "4/18/2006")
    other = ("I20", "002_S_0295", "bl", "MPR; GradWarp", "Processed", "4/18/2006")
    with pytest.raises(TableError, match="differ in Description"):
        select_cases(_loni(tree, [first, other]), None, Choice())
    repeats = [
        first,
        ("I20", "002_S_0295", "bl", "MPR-R; GradWarp; N3; Scaled", "Processed", "4/18/2006"),
        ("I30", "002_S_0295", "bl", "MPR; GradWarp; N3; Scaled_2", "Processed", "4/18/2006"),
    ]
    selection = select_cases(_loni(tree, repeats), None, Choice())
    assert [case.scan.image.name for case in selection.cases] == ["x_I10.nii"] and len(selection.unused_images) == 2


def test_two_files_of_one_image_id_are_refused(tree: Tree) -> None:
    rows = [("I10", "002_S_0295", "bl", "MPRAGE", "Original", "4/18/2006")]
    root = tree(
        {
            "list.csv": [LONI, *((row[0], row[1], "CN", row[2], "MRI", *row[3:]) for row in rows)],
            "ADNI/002_S_0295/I10/x_I10.nii": "",
            "ADNI/002_S_0295/I10/x_I10_mask.nii": "",
        }
    )
    with pytest.raises(TableError, match=r"image I10 is both .*x_I10.nii and .*x_I10_mask.nii"):
        read_loni_source(root / "list.csv", root / "ADNI")


# 5: --max-days


def _dated(tree: Tree, visit: str = "2000-01-01") -> tuple[Source, Path]:
    root = tree(
        {
            "t.csv": [
                ("subject", "date", "file"),
                ("1", "2006-01-01", "1.nii.gz"),
                ("2", "2006-01-01", "2.nii.gz"),
            ],
            "people.csv": [
                ("subject", "examdate", "age", "dx"),
                ("1", visit, "70", "AD"),
                ("2", "2006-01-20", "60", "CN"),
            ],
        }
    )
    return read_table_source(TableOptions(table=root / "t.csv")), root


def test_a_visit_too_far_away_is_left_out_and_said_where_the_table_has_one_row_per_person(tree: Tree) -> None:
    source, root = _dated(tree)
    table = read_table(root / "people.csv")
    joined = join_table(source, table, by_time=True, max_days=30)
    assert _found(joined, "dx") == {"2": ("CN",)}
    assert joined.images_without_row == (str(root / "1.nii.gz"),)
    assert any(
        "1 scans were left out: no visit of theirs in people.csv is known to lie within 30" in n for n in joined.notes
    )
    # without the option such a table is one of people, and the age at the scan is six years higher
    by_subject = join_table(source, table, by_time=False)
    assert float(by_subject.scans[0].row["age_at_scan"]) == pytest.approx(76, abs=0.01)
    assert {scan.gap_days for scan in by_subject.scans} == {2192, 19}


def test_a_scan_without_a_date_is_left_out_as_well_and_a_table_without_times_says_so(tree: Tree) -> None:
    source, root = _dated(tree, visit="n/a")
    assert _found(join_table(source, read_table(root / "people.csv"), by_time=True, max_days=30), "dx") == {
        "2": ("CN",)
    }
    root = tree({"sexes.csv": [("subject", "sex"), ("1", "F"), ("2", "M")]})
    joined = join_table(source, read_table(root / "sexes.csv"), by_time=True, max_days=30)
    assert len(joined.scans) == 2 and any("sexes.csv has no times and was joined by subject" in n for n in joined.notes)


def test_oasis_3_visits_with_one_row_each_are_joined_by_time_too(tree: Tree) -> None:
    root = tree(
        {
            "cdr.csv": [("OASISID", "days_to_visit", "CDRTOT"), ("OAS30001", "0", "0"), ("OAS30002", "2000", "1")],
            **_t1("sub-OAS30001/ses-d0010", "sub-OAS30002/ses-d0010"),
        }
    )
    joined = join_table(read_bids_source(BidsOptions(root=root)), read_table(root / "cdr.csv"), by_time=False)
    assert _found(joined, "CDRTOT") == {"sub-OAS30001 ses-d0010": ("0",)}


# 6: dates


@pytest.mark.parametrize(
    "cell",
    [
        *("2010-05-06", "2010/05/06", "2010.5.6", "06.05.2010", "20100506", "6-May-2010", "6 May 2010", "May 6, 2010"),
        *("2010-05-06T09:30:00", "06.05.2010 09:30", "2010/05/06 00:00:00"),
    ],
)
def test_a_date_is_the_same_day_however_it_is_written(cell: str) -> None:
    assert as_day(cell) == as_day("2010-05-06") == DateColumn.of("c", [cell], None).day(cell)


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["05/06/2010", "25/10/2010"], "day-first"),
        (["05/06/2010", "10/25/2010"], "month-first"),
        (["05-06-2010", "25-10-2010"], "day-first"),
    ],
)
def test_one_date_of_a_column_proves_the_order_of_all(cells: list[str], order: str) -> None:
    column = DateColumn.of("c", cells, None)
    assert column.order == order
    assert column.day("05/06/2010") == as_day("2010-06-05" if order == "day-first" else "2010-05-06")
    assert not any(column.doubt(cell) for cell in cells)


def test_dates_that_can_be_read_in_two_ways_are_refused_where_they_matter_and_only_there(tree: Tree) -> None:
    root = tree(
        {
            "t.csv": [("subject", "date", "file"), ("1", "05/06/2010", "1.nii.gz"), ("2", "06/06/2010", "2.nii.gz")],
            "c.csv": [("subject", "examdate", "dx"), ("1", "2010-06-05", "AD"), ("2", "2010-06-06", "CN")],
            "d.csv": [("subject", "dx"), ("1", "AD"), ("2", "CN")],
        }
    )
    source = read_table_source(TableOptions(table=root / "t.csv"))
    with pytest.raises(TableError, match=r"column 'date' of .*t.csv: 05/06/2010 may have .* --date-format day-first"):
        join_table(source, read_table(root / "c.csv"), by_time=True, max_days=3)
    assert len(join_table(source, read_table(root / "d.csv"), by_time=False).scans) == 2
    told = read_table_source(TableOptions(table=root / "t.csv", rules=CellRules(date_order="day-first")))
    joined = join_table(told, read_table(root / "c.csv"), by_time=True, max_days=3)
    assert [scan.gap_days for scan in joined.scans] == [0, 0]


def test_which_session_came_first_is_refused_if_only_doubtful_dates_could_tell() -> None:
    column = DateColumn.of("column 'd'", ["05/06/2010", "06/05/2010"], None)
    pair = [
        (name, moment_of(name, cell, dates=column)) for name, cell in (("pre", "05/06/2010"), ("post", "06/05/2010"))
    ]
    with pytest.raises(TableError, match="--date-format"):
        time_order(pair, "s")
    by_name = [(name, moment_of(name, "05/06/2010", dates=column)) for name in ("bl", "m12")]
    assert time_order(by_name, "s") == [0, 365]  # the names tell it


def test_a_column_that_contradicts_itself_and_a_cell_that_is_no_date_are_refused_where_they_matter() -> None:
    column = DateColumn.of("column 'd'", ["25/10/2010", "10/25/2010", "03/04/2010", "soon", "03/03/2010"], "day-first")
    known = Moment(calendar_day=1)
    with pytest.raises(TableError, match=r"has the day first in 25/10/2010 and the month first in 10/25/2010"):
        known.days_after(moment_of("", "03/04/2010", dates=column))
    with pytest.raises(TableError, match=r"'soon' is not a date that can be read; write it as YYYY-MM-DD"):
        known.days_after(moment_of("", "soon", dates=column))
    assert moment_of("", "03/03/2010", dates=column).calendar_day == as_day("2010-03-03")
    assert moment_of("", "n/a", dates=column) == Moment()


def test_loni_writes_the_month_first_unless_its_list_went_through_a_european_spreadsheet(tree: Tree) -> None:
    row = ("I10", "002_S_0295", "bl", "MPRAGE", "Original")
    assert _loni(tree, [(*row, "4/5/2006")]).scans[0].moment.calendar_day == as_day("2006-04-05")
    other = ("I20", "002_S_0413", "bl", "MPRAGE", "Original", "25/12/2006")
    assert _loni(tree, [(*row, "4/5/2006"), other]).scans[0].moment.calendar_day == as_day("2006-05-04")


# 7: numbers


@pytest.mark.parametrize("condition", ["mmse>=60", "mmse<60", "mmse==60", "mmse!=60"])
@pytest.mark.parametrize("cell", ["71,5", ">89", "35-40"])
def test_a_cell_that_is_meant_as_a_number_and_is_none_stops_a_filter_on_numbers(condition: str, cell: str) -> None:
    with pytest.raises(TableError, match=f"mmse is '{cell}' in a row, which is not a number"):
        Condition.parse(condition).holds({"mmse": cell})


def test_words_stop_an_order_only_and_what_is_missing_is_neither_above_nor_below() -> None:
    with pytest.raises(TableError, match="'high' in a row, which is not a number"):
        Condition.parse("mmse>=60").holds({"mmse": "high"})
    assert Condition.parse("mmse!=60").holds({"mmse": "high"})
    assert not Condition.parse("mmse>=60").holds({"mmse": "n/a"})
    with pytest.raises(TableError, match="'OAS1_0100' is not a number, so nothing is above or below it"):
        Condition.parse("ID<OAS1_0100")


def test_bins_refuse_such_cells_too() -> None:
    rule = TargetRule(column="Age", bins=parse_bins("Age", ["<40=young", ">=60=old"]))
    with pytest.raises(TableError, match="Age is '71,5'"):
        rule.target_of(Scan(image=Path("x"), subject_id="s", session_id="", row={"Age": "71,5"}))


def test_decimal_commas_between_semicolons_are_numbers_and_thousands_are_not(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;mmse;volume;both\n1;71,5;1.234,5;1,5\n2;n/a;2;1.5\n3;-60;3;2\n")
    rows = read_rows(path)
    assert [row["mmse"] for row in rows] == ["71.5", "n/a", "-60"]
    assert [row["volume"] for row in rows] == ["1.234,5", "2", "3"]  # no number to anybody
    assert [row["both"] for row in rows] == ["1,5", "1.5", "2"]  # who knows
    assert [Condition.parse("mmse>=60").holds(row) for row in rows] == [True, False, False]
    path.write_text('id,mmse\n1,"71,5"\n')
    assert read_rows(path)[0]["mmse"] == "71,5"


# 8: codes for "not known"


def test_minus_one_and_minus_four_are_values_in_a_table_of_ones_own(tree: Tree) -> None:
    rows = [("subject", "file", "class", "z"), ("1", "1", "-1", "-4"), ("2", "2", "1", "0.3")]
    root = tree({"t.csv": rows})
    source = read_table_source(TableOptions(table=root / "t.csv"))
    selection = select_cases(source, TargetRule(column="class"), Choice(keep=["z"]))
    assert selection.classes == ("-1", "1") and selection.cases[0].covariates["z"] == -4.0
    numbers = select_cases(source, TargetRule(column="z", is_number=True), Choice())
    assert [case.target for case in numbers.cases] == [-4.0, 0.3]


@pytest.mark.parametrize(
    "header",
    [
        ("RID", "PTID", "VISCODE", "DX_bl", "AGE", "score"),
        ("RID", "Phase", "VISCODE", "USERDATE", "x", "score"),
        ("ID", "M/F", "Hand", "CDR", "x", "score"),
        ("OASISID", "days_to_visit", "x", "y", "z", "score"),
    ],
)
def test_they_mean_not_known_in_tables_of_adni_and_oasis(tree: Tree, header: tuple[str, ...]) -> None:
    root = tree({"t.csv": [header, *(("1", "1", "1", "1", "1", cell) for cell in ("-4", "-1.0", "4", "-9"))]})
    assert [row["score"] for row in read_table(root / "t.csv").rows] == ["", "", "4", "-9"]


def test_other_codes_are_named_for_all_columns_or_for_one(tree: Tree) -> None:
    root = tree(
        {
            "t.csv": [
                ("subject", "file", "age", "mmse", "dx"),
                ("999", "1.nii.gz", "999", "-9", "AD"),
                ("2", "2.nii.gz", "70", "999", "#N/A"),
            ]
        }
    )
    rules = CellRules(missing=parse_missing(["-9.0", "age=999"]))
    source = read_table_source(TableOptions(table=root / "t.csv", rules=rules))
    assert _found(source, "age", "mmse") == {"999": ("", ""), "2": ("70", "999")}
    with pytest.raises(TableError, match="1 scans have no dx: 2;"):
        select_cases(source, LABEL, Choice())
    plain = read_table_source(TableOptions(table=root / "t.csv"))
    with pytest.raises(TableError, match=r"999 has age '999', which is no age in years.* --missing age=999"):
        select_cases(plain, LABEL, Choice(skip_unlabelled=True))


def test_cells_are_replaced_by_what_the_user_says_they_stand_for(tree: Tree) -> None:
    root = tree({"t.csv": [("subject", "file", "sex", "age"), ("1", "1", "w", "35-40"), ("2", "2", "m", ">89")]})
    replacements = parse_replacements([["sex", "w=F"], ["age", "35-40=37.5", ">89="]])
    source = read_table_source(TableOptions(table=root / "t.csv", rules=CellRules(replacements=replacements)))
    covariates = [case.covariates for case in select_cases(source, None, Choice()).cases]
    assert covariates == [{"age": 37.5, "sex": "F"}, {"age": "", "sex": "M"}]


# 9: one person in two spellings


@pytest.mark.parametrize(
    "pair", [("sub-01", "01"), ("p001", "P001"), ("OAS1_0061", "OAS1_0061_MR2"), ("002_S_0295", "sub-ADNI002S0295")]
)
def test_one_person_in_two_spellings_is_refused_or_joined_on_request(tree: Tree, pair: tuple[str, str]) -> None:
    root = tree({"t.csv": [("subject", "session", "file"), (pair[0], "a", "1"), (pair[1], "b", "2"), ("x", "a", "3")]})
    source = read_table_source(TableOptions(table=root / "t.csv"))
    with pytest.raises(TableError, match=f"{pair[0]} and {pair[1]} are two spellings of one person's id.*--extra-ids"):
        select_cases(source, None, Choice())
    joined = select_cases(source, None, Choice(same_people={person_of(name): pair[0] for name in pair}))
    assert [case.subject_id for case in joined.cases] == [pair[0], pair[0], "x"]


# labels


def test_a_class_in_two_spellings_is_refused_and_a_rare_one_that_is_nearly_another_pointed_out(tree: Tree) -> None:
    def source_of(*labels: str) -> Source:
        rows = [(str(index), f"{index}.nii.gz", label) for index, label in enumerate(labels)]
        root = tree({"t.csv": [("subject", "file", "dx"), *rows]})
        return read_table_source(TableOptions(table=root / "t.csv"))

    with pytest.raises(TableError, match=r"dx is 'CN' for 2 scans and 'cn' for 1.*--label-map CN,cn=CN"):
        select_cases(source_of("CN", "CN", "cn", "AD"), LABEL, Choice())
    with pytest.raises(TableError, match=r"'Early MCI' .* 'early-MCI'"):
        select_cases(source_of("Early MCI", "early-MCI", "AD"), LABEL, Choice())
    named = TargetRule(column="dx", label_map={"CN": "CN", "cn": "x", "AD": "AD"}, classes=("CN", "x", "AD"))
    assert select_cases(source_of("CN", "cn", "AD"), named, Choice()).classes == ("CN", "x", "AD")
    selection = select_cases(source_of(*["Dementia"] * 6, *["Normal"] * 6, "Demetia"), LABEL, Choice())
    assert any("class 'Demetia' (1 scans) may be a misspelt 'Dementia' (6 scans)" in note for note in selection.notes)
    assert not select_cases(source_of("-1", "1"), LABEL, Choice()).notes
    assert resolve_column(LABEL, source_of("a", "b")) == LABEL
