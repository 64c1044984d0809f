"""An import says where there are too few people for folds, and what can be done."""

from pathlib import Path

import pandas as pd
import pytest

from adnext_plugin.errors import SplitError
from adnext_plugin.importing.import_report import import_report, report_text
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.targets import TargetRule
from adnext_plugin.splits.drawing import make_splits
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
