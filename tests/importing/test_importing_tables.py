"""Cells, filters and labels of the tables people have."""

import pandas as pd
import pytest

from adnext_plugin.errors import TableError
from adnext_plugin.importing.scans import Scan
from adnext_plugin.importing.tables.cells import Condition, as_number, is_missing
from adnext_plugin.importing.tables.reading import read_rows
from adnext_plugin.importing.targets import TargetRule, parse_bins, parse_label_map


@pytest.mark.parametrize(
    ("text", "row", "passes"),
    [
        ("Age>=60", {"Age": "60"}, True),
        ("Age>=60", {"Age": "89+"}, True),
        ("Age>=60", {"Age": ""}, False),
        ("Age < 60", {"Age": "9"}, True),  # as numbers, not as text
        ("CDR==0", {"CDR": "0.0"}, True),
        ("CDR!=0.5", {"CDR": ""}, True),
        ("session==MR1", {"session": "MR2"}, False),
        ("M/F!=M", {"M/F": "F"}, True),
        ("MMSE<20", {"MMSE": "#N/A"}, False),
        ("z<0", {"z": "-4"}, True),  # "not known" in tables of ADNI and OASIS only
        ("Description~mprage", {"Description": "Sag MPRAGE Repeat"}, True),
        ("Description!~mask", {"Description": "Hippocampal Mask"}, False),
        ("age!=>89", {"age": ">89"}, False),
    ],
)
def test_filters_compare_numbers_as_numbers_and_the_rest_as_text(text: str, row: dict, passes: bool) -> None:
    assert Condition.parse(text).holds(row) is passes


def test_a_filter_on_no_column_or_without_a_comparison_is_refused() -> None:
    with pytest.raises(TableError, match="did you mean 'Age'"):
        Condition.parse("aeg>5").holds({"Age": "3"})
    with pytest.raises(TableError, match="write a column"):
        Condition.parse("Age")


def test_a_filter_finds_its_column_in_another_case_of_letters_unless_two_differ_in_that_alone() -> None:
    assert Condition.parse("age>5").holds({"Age": "6"}) and not Condition.parse("AGE>5").holds({"Age": "3"})
    assert Condition.parse("age>5").holds({"Age": "3", "age": "6"})
    with pytest.raises(TableError, match="no column 'AGE'"):
        Condition.parse("AGE>5").holds({"Age": "3", "age": "6"})


def test_missing_values_and_numbers_are_recognised_as_tables_write_them() -> None:
    assert all(is_missing(cell) for cell in ("", "n/a", "NA", "NaN", "#N/A", "<NA>"))
    assert not any(is_missing(cell) for cell in ("0", "CN", "0.0", "-1", "-4", "-9", "999"))
    assert (as_number("89+"), as_number("1e2"), as_number("M06")) == (89, 100, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "two columns 'a'"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, but the header has 2"),
        (b"\xff\xfe\x00bad", "not a text table"),
        ("a,b\n1,\0\n", "not a text table"),
    ],
)
def test_damaged_tables_are_refused_with_the_line(tmp_path, content: str | bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=message):
        read_rows(path)


def test_a_byte_order_mark_tabs_and_quotes_are_read(tmp_path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes('\ufeffid\tname\n1\t"a, b"\n\n'.encode())
    assert read_rows(path) == [{"id": "1", "name": "a, b"}]


def test_semicolons_line_breaks_in_cells_and_workbooks_are_read(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id;name\n1;"a, b\nc"\n')
    assert read_rows(path) == [{"id": "1", "name": "a, b c"}]
    path = tmp_path / "t.xlsx"
    frame = pd.DataFrame({"id": ["007", "8"], "age": [61.5, None], "n": [1, 2], "": ["", ""]})
    frame.to_excel(path, index=False)
    assert read_rows(path) == [{"id": "007", "age": "61.5", "n": "1"}, {"id": "8", "age": "", "n": "2"}]


def _scan(**row: str) -> Scan:
    return Scan(image="x.nii.gz", subject_id="s", session_id="", row=row)


def test_ratings_become_classes_however_the_number_is_written() -> None:
    rule = TargetRule(column="CDR", is_cdr=True, classes=("CN", "AD"))
    found = [rule.target_of(_scan(CDR=cell)) for cell in ("0", "0.0", "0.5", "1", "2.0", "", "n/a")]
    assert found == ["CN", "CN", "AD", "AD", "AD", None, None]
    with pytest.raises(TableError, match="no Clinical Dementia Rating"):
        rule.target_of(_scan(CDR="mild"))
    with pytest.raises(TableError, match=r"'4.5', which is no Clinical Dementia Rating"):
        rule.target_of(_scan(CDR="4.5"))  # a sum of boxes


def test_a_label_map_orders_the_classes_and_knows_all_values_or_none() -> None:
    label_map, classes = parse_label_map(["CN,SMC=CN", "AD,Dementia=AD"])
    assert classes == ("CN", "AD")
    rule = TargetRule(column="DX", label_map=label_map, classes=classes)
    assert [rule.target_of(_scan(DX=value)) for value in ("SMC", "Dementia")] == ["CN", "AD"]
    with pytest.raises(TableError, match=r"'MCI', which --label-map does not name.*DX!=MCI"):
        rule.target_of(_scan(DX="MCI"))
    with pytest.raises(TableError, match="names 'CN' twice"):
        parse_label_map(["CN=A", "CN=B"])


def test_bins_of_a_number_leave_out_what_is_between_them() -> None:
    rule = TargetRule(column="Age", bins=parse_bins("Age", ["<40=young", ">=60=old"]), classes=("young", "old"))
    assert [rule.target_of(_scan(Age=age)) for age in ("39.9", "40", "60", "")] == ["young", None, "old", None]
