"""Trees, tables and names as people have them: read, or refused in words that name the cause."""

import json
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.image_files import images_below
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.cells import CellRules, parse_replacements
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.importing.tables.reading import read_rows
from adnext_plugin.importing.targets import TargetRule

Tree = Callable[[dict], Path]
T1 = "sub-{0}/ses-{1}/anat/sub-{0}_ses-{1}_T1w.nii.gz"


# trees


def test_a_tree_without_participants_gives_scans_and_labels_of_sessions(tree: Tree) -> None:
    files = {T1.format(name, session): "" for name in "AB" for session in "12"}
    files["sub-A/sub-A_sessions.tsv"] = [("session_id", "dx"), ("ses-1", "CN"), ("ses-2", "AD")]
    files["sub-B/sub-B_sessions.tsv"] = [("session_id", "dx"), ("ses-1", "AD"), ("ses-2", "AD")]
    source = read_bids_source(BidsOptions(root=tree(files)))
    assert len(select_cases(source, None, Choice()).cases) == 4
    cases = select_cases(source, TargetRule(column="dx"), Choice()).cases
    assert [case.target for case in cases] == ["CN", "AD", "AD", "AD"]


def test_a_tree_without_tables_is_for_pretraining_and_says_what_is_missing_to_others(tree: Tree) -> None:
    source = read_bids_source(BidsOptions(root=tree({T1.format("A", "1"): "", T1.format("B", "1"): ""})))
    assert len(select_cases(source, None, Choice()).cases) == 2
    with pytest.raises(TableError, match="no column 'dx' for sub-A ses-1"):
        select_cases(source, TargetRule(column="dx"), Choice())


def test_participants_with_a_row_for_every_session_are_joined_by_both(tree: Tree) -> None:
    for column in ("session_id", "session", "visit"):
        rows = [("participant_id", column, "dx"), ("sub-A", "ses-1", "CN"), ("sub-A", "2", "AD"), ("sub-B", "1", "CN")]
        root = tree(
            {
                "participants.tsv": [*rows, ("sub-B", "3", "AD")],
                **{T1.format(n, s): "" for n, s in ("A1", "A2", "B1", "B2")},
            }
        )
        source = read_bids_source(BidsOptions(root=root))
        assert [(str(scan), scan.row["dx"]) for scan in source.scans] == [
            ("sub-A ses-1", "CN"),
            ("sub-A ses-2", "AD"),
            ("sub-B ses-1", "CN"),
        ]
        assert source.rows_without_image == ("sub-B 3",) and len(source.images_without_row) == 1


def test_a_participant_twice_without_a_session_is_still_refused(tree: Tree) -> None:
    root = tree(
        {"participants.tsv": [("participant_id", "dx"), ("sub-A", "CN"), ("sub-A", "AD")], T1.format("A", "1"): ""}
    )
    with pytest.raises(TableError, match="names 'sub-A' twice"):
        read_bids_source(BidsOptions(root=root))
    root = tree(
        {
            "participants.tsv": [("participant_id", "session", "dx"), ("sub-A", "1", "CN"), ("sub-A", "1", "AD")],
            T1.format("A", "1"): "",
        }
    )
    with pytest.raises(TableError, match="names 'sub-A 1' twice"):
        read_bids_source(BidsOptions(root=root))


def test_linked_folders_of_subjects_and_sessions_and_hidden_files_are_seen_and_passed_over_by_all(tree: Tree) -> None:
    root = tree(
        {
            "store/A/ses-1/anat/sub-A_ses-1_T1w.nii.gz": "",
            "store/B1/anat/sub-B_ses-1_T1w.NII.GZ": "",
            "bids/sub-B/ses-1x": "",
            "bids/sub-C/ses-1/anat/sub-C_ses-1_T1w.nii": "",
            "bids/sub-C/ses-1/anat/._sub-C_ses-1_T1w.nii": "",
            "bids/sub-C/ses-1/anat/._sub-C_ses-1_T1w.json": "not JSON",
            "bids/.git/sub-D/ses-1/anat/sub-D_ses-1_T1w.nii": "",
            "bids/sub-C/ses-1/anat/sub-C_ses-1_T1w.json": json.dumps({"MagneticFieldStrength": 3}),
        }
    )
    (root / "bids/sub-A").symlink_to(root / "store/A")
    (root / "bids/sub-B/ses-1").symlink_to(root / "store/B1")
    (root / "bids/sub-C/circle").symlink_to(root / "bids")
    source = read_bids_source(BidsOptions(root=root / "bids"))
    assert [str(scan) for scan in source.scans] == ["sub-A ses-1", "sub-B ses-1", "sub-C ses-1"]
    assert source.scans[2].row["MagneticFieldStrength"] == "3" and not source.notes
    # prediction's walker finds the same files
    assert {path.name for path in images_below(root / "bids")} == {scan.image.name for scan in source.scans}


def test_a_damaged_sidecar_that_nobody_asked_for_is_noted(tree: Tree) -> None:
    root = tree({T1.format("A", "1"): "", "sub-A/ses-1/anat/sub-A_ses-1_T1w.json": "{"})
    source = read_bids_source(BidsOptions(root=root))
    assert len(source.scans) == 1 and any("is not valid JSON" in note for note in source.notes)


def test_an_unfetched_table_is_named_with_the_command_that_fetches_it(tree: Tree) -> None:
    root = tree({T1.format("A", "1"): ""})
    (root / "participants.tsv").symlink_to(".git/annex/objects/a/b/MD5E-s9--1.tsv")
    with pytest.raises(PathsError, match=r"participants.tsv is a link of git-annex .*: datalad get"):
        read_bids_source(BidsOptions(root=root))


# covariates


ODD_COVARIATES = [
    ("sex", "D"),
    ("age", "35-40"),
    ("age", ">89"),
    ("sex", "w"),
    ("field_strength", "high"),
    ("age", "old"),
]


def _people(tree: Tree, role: str, cell: str, **options) -> TableOptions:
    root = tree({"t.csv": [("subject", "file", role), ("1", "1.nii.gz", cell), ("2", "2.nii.gz", "2")]})
    return TableOptions(table=root / "t.csv", **options)


@pytest.mark.parametrize(("role", "cell"), ODD_COVARIATES)
def test_a_covariate_that_nobody_asked_for_is_missing_with_a_note(tree: Tree, role: str, cell: str) -> None:
    selection = select_cases(read_table_source(_people(tree, role, cell)), None, Choice())
    assert [case.covariates[role] for case in selection.cases] == ["", "F" if role == "sex" else 2.0]
    (note,) = selection.notes
    assert f"{role} of 1 scans is not known, the first 1, where {role} is {cell!r}" in note
    assert f"--covariate-map {role} '{cell}=VALUE'" in note


@pytest.mark.parametrize(("role", "cell"), [pair for pair in ODD_COVARIATES if pair[0] != "field_strength"])
def test_a_covariate_that_was_asked_for_must_make_sense(tree: Tree, role: str, cell: str) -> None:
    source = read_table_source(_people(tree, role, cell, columns={role: role}))
    with pytest.raises(TableError, match=f"1 has {role} '{cell}'.*--covariate-map {role}"):
        select_cases(source, None, Choice())
    mapped = CellRules(replacements=parse_replacements([[role, f"{cell}=1"]]))
    source = read_table_source(_people(tree, role, cell, columns={role: role}, rules=mapped))
    assert select_cases(source, None, Choice()).cases[0].covariates[role] == ("M" if role == "sex" else 1.0)


def test_a_column_is_done_without_on_request(tree: Tree) -> None:
    source = read_table_source(_people(tree, "age", "999", columns={"age": "none"}))
    assert select_cases(source, None, Choice()).cases[0].covariates == {}


# names


def test_people_whose_names_are_not_ascii_have_readable_and_distinct_case_ids(tree: Tree) -> None:
    names = ["Müller", "Muller", "李", "里", "Иванов", "Ñandú", "a b", "***", "+++"]
    rows = [(name, f"{index}.nii.gz") for index, name in enumerate(names)]
    source = read_table_source(TableOptions(table=tree({"t.csv": [("subject", "file"), *rows]}) / "t.csv"))
    found = [case.case_id for case in select_cases(source, None, Choice()).cases]
    assert len({name.lower() for name in found}) == len(names)
    assert all(name.isascii() for name in found)
    assert [name.split("-")[0] for name in found[:6]] == ["Muller", "Muller", "Li", "Li", "Ivanov", "Nandu"]
    assert found[4:7] == ["Ivanov", "Nandu", "a-b"]
    assert found == [case.case_id for case in select_cases(source, None, Choice()).cases]


def test_sessions_that_become_one_when_transliterated_stay_two_and_one_name_in_two_forms_is_one(tree: Tree) -> None:
    rows = [
        ("1", "李", "1.nii.gz"),
        ("1", "里", "2.nii.gz"),
        ("Mu\u0308ller", "", "3.nii.gz"),
        ("M\u00fcller", "b", "4.nii.gz"),
    ]
    root = tree({"t.csv": [("subject", "session", "file"), *rows]})
    source = read_table_source(TableOptions(table=root / "t.csv"))
    with pytest.raises(TableError, match="two spellings of one person's id"):
        select_cases(source, None, Choice())
    kept = select_cases(source, None, Choice(may_have_two_ids=True)).cases
    assert len({case.case_id for case in kept}) == 4 and kept[0].case_id.startswith("1_Li-")


# tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize(("name", "separator"), [("t.csv", ";"), ("t.csv", ","), ("t.tsv", "\t"), ("t.csv", "\t")])
def test_tables_are_read_in_the_encodings_that_spreadsheets_write(
    tmp_path: Path, encoding: str, name: str, separator: str
) -> None:
    rows = [("subject", "site", "age"), *((str(n), "Hôpital Genève", "60") for n in range(9)), ("9", "Zürich", "70")]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert [tuple(row.values()) for row in read_rows(tmp_path / name)] == rows[1:]
    table = read_table(tmp_path / name)
    assert bool(table.notes) == (encoding in ("latin-1", "cp1252"))


@pytest.mark.parametrize(("text", "encoding"), [("Иванов", "cp1251"), ("田中", "shift_jis"), ("Müller", "mac_roman")])
def test_a_table_in_an_encoding_that_cannot_be_known_is_refused_by_name(
    tmp_path: Path, text: str, encoding: str
) -> None:
    (tmp_path / "t.csv").write_bytes(f"subject,name\n1,{text}\n2,{text}\n".encode(encoding))
    with pytest.raises(TableError, match=r"t.csv is .*save it as UTF-8"):
        read_rows(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", '"subject","age"\n"1","s1",60\n"2","s2",70\n', "looks like a row name of R.*row.names = FALSE"),
        ("t.csv", "subject,age\ns1,60,\ns2,70,\n", "every line ends with a separator too many"),
        ("t.csv", "subject,age\ns1,60\n# s2 withdrew\ns3,70\n", "line 3: 1 cells.*looks like a comment"),
        ("t.csv", "subject,,,age\n1,2,3,4\n", "columns 2 and 3 have no name"),
        ("t.tsv", "participant_id,age\nsub-1,60\n", "has ',' between its columns, not the tabs of a TSV"),
    ],
)
def test_what_is_odd_about_a_text_table_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=message):
        read_rows(tmp_path / name)


def test_comments_above_the_header_are_passed_over_and_a_header_with_a_hash_is_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("# exported 2020-01-01, by X\n#\nsubject,age\n1,60\n")
    assert read_rows(path) == [{"subject": "1", "age": "60"}]
    path.write_text("#subject,age\n1,60\n2,70\n")
    assert [row["#subject"] for row in read_rows(path)] == ["1", "2"]


def _workbook(path: Path, **sheets: list[list]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_table_on_the_second_sheet_is_said_wherever_something_is_missing_on_the_first(tmp_path: Path) -> None:
    data = [["subject", "file"], ["1", "1.nii.gz"]]
    for first in ([["Read me"]], [["Read me", "please"], ["x", "y"]], []):
        path = _workbook(tmp_path / "t.xlsx", Notes=first, Data=data)
        with pytest.raises(TableError, match=r"only the first sheet of a workbook is read, and this has more \(Data\)"):
            read_table_source(TableOptions(table=path))
    with pytest.raises(TableError, match=r"no column 'ID'.* this has more \(Data\)"):
        read_table(_workbook(tmp_path / "t.xlsx", Notes=[["a", "b"], ["1", "2"]], Data=data), {"subject": "ID"})


def test_merged_cells_and_titles_above_the_header_of_a_workbook_are_named(tmp_path: Path) -> None:
    path = _workbook(
        tmp_path / "t.xlsx", A=[["Demographics", None, "Scores"], ["subject", "age", "mmse"], ["1", 60, 29]]
    )
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("A1:B1")
    book.save(path)
    with pytest.raises(TableError, match="the first line has no name in column 2, as where cells are merged"):
        read_rows(path)
    with pytest.raises(TableError, match="no name in column 2"):
        read_rows(_workbook(path, A=[["Table 1"], ["subject", "age"], ["1", 60]]))


def test_pandas_index_column_and_a_single_unnamed_column_of_text_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"subject": ["a", "b"]}).to_csv(tmp_path / "t.csv")
    assert [row["subject"] for row in read_rows(tmp_path / "t.csv")] == ["a", "b"]
