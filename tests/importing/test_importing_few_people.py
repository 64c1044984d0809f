"""What folds need of an import: it says where there are too few people for folds, and what can be done."""

from pathlib import Path

import pandas as pd
import pytest

from adnext_plugin.errors import SplitError, TableError
from adnext_plugin.importing.import_report import import_report, report_text
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.targets import TargetRule
from adnext_plugin.splits.drawing import Scheme, draw, make_splits
from adnext_plugin.task import Task

CLASSES = ("CN", "MCI")


def _notes(tree, few: int, *, is_number: bool = False) -> list[str]:
    labels = [str(60 + n) for n in range(few)] if is_number else ["CN"] * 8 + ["MCI"] * few
    rows = [(f"s{number}", "1", f"{number}.nii.gz", label) for number, label in enumerate(labels)]
    rows.append(("s0", "2", "again.nii.gz", labels[0]))  # a second scan is no second person
    root: Path = tree({"t.csv": [("subject", "session", "file", "dx"), *rows]})
    source = read_table_source(TableOptions(table=root / "t.csv"))
    rule = TargetRule(column="dx", is_number=True) if is_number else TargetRule(column="dx", classes=CLASSES)
    selection = select_cases(source, rule, Choice())
    report = import_report(source, selection)
    assert all(note in report_text(report) for note in report["notes"])
    return [note for note in report["notes"] if "folds" in note]


@pytest.mark.parametrize(
    ("few", "said"),
    [
        (2, "class MCI has 2 subjects, fewer than the 4 folds that planning draws; join classes with --label-map, "),
        (3, "class MCI has 3 subjects, fewer than the 4 folds that planning draws; plan with --folds 3, join classes"),
        (4, None),
    ],
)
def test_a_class_of_fewer_people_than_folds_is_named_with_a_way_out_that_works(tree, few: int, said) -> None:
    notes = _notes(tree, few)
    assert [note[: len(said)] for note in notes] == [said] if said else not notes
    labels = ["CN"] * 8 + ["MCI"] * few
    people = pd.DataFrame({"case_id": [f"c{n}" for n in range(len(labels))], "target": labels})
    people["subject_id"] = people["case_id"]
    task = Task(name="T", kind="classification", target="target", classes=CLASSES)
    if said:
        with pytest.raises(SplitError, match=f"class 'MCI' has {few} subjects, fewer than 4 folds need"):
            make_splits(people, task)
    if not said or "--folds" in said:
        assert len(make_splits(people, task, min(few, 4))) == min(few, 4)


def test_where_a_number_is_to_be_learned_all_people_count(tree) -> None:
    assert not _notes(tree, 4, is_number=True)
    (note,) = _notes(tree, 3, is_number=True)
    way_out = "plan with --folds 3, or add subjects"
    assert note == f"there are 3 subjects, fewer than the 4 folds that planning draws; {way_out}"


def test_columns_of_words_come_along_for_folds_and_mixed_ones_stop_the_import(tree) -> None:
    rows = [(f"s{n}", f"{n}.nii.gz", "CN" if n % 2 else "MCI", f"{n // 3}", "AB"[n % 2], "1.5") for n in range(12)]
    header = ("subject", "file", "dx", "family", "site", "volume")
    named = [(*row[:3], f"fam{row[3]}", *row[4:]) for row in rows]
    rule = TargetRule(column="dx", classes=CLASSES)

    def covariates(rows: list[tuple[str, ...]]) -> pd.DataFrame:
        source = read_table_source(TableOptions(table=tree({"t.csv": [header, *rows]}) / "t.csv"))
        cases = select_cases(source, rule, Choice(keep=("family", "site", "volume"))).cases
        return pd.DataFrame([{"case_id": c.case_id, "subject_id": c.subject_id, **c.covariates} for c in cases])

    found = covariates(named)
    assert found["family"].tolist() == [f"fam{n // 3}" for n in range(12)] and set(found["site"]) == {"A", "B"}
    assert set(found["volume"]) == {1.5} and covariates(rows)["family"].tolist()[-1] == 3.0
    people = found.assign(target=[row[2] for row in rows])
    task = Task(name="T", kind="classification", target="target", classes=CLASSES)
    for fold in draw(people, task, Scheme(group_by="family")):
        held_out = people["case_id"].isin(fold["val"])
        assert not set(people.loc[held_out, "family"]) & set(people.loc[~held_out, "family"])
    with pytest.raises(TableError, match="s0 has family 'fam0', which is not a number"):
        covariates([named[0], *rows[1:]])
