"""Text that a spreadsheet would run as a formula is marked in what we write, and unmarked where it is read."""

import csv
import json
import random
from pathlib import Path

import pandas as pd
import pytest
from conftest import Workspace, write_cohort

from adnext_plugin.api.results import read_results
from adnext_plugin.cli import compare, evaluate, import_dataset, plan_and_preprocess, predict, quality, train
from adnext_plugin.csv_files import as_read, read_csv, write_csv, written
from adnext_plugin.errors import PathsError, TableError

FORMULAS = [
    "=1+1",
    "+x",
    "-x",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "=",
    "-",
    "'=1",
    "''-1x",
    "＝1",
    "-1-1",
    "=-1",
    "-1e",
]
PLAIN = [
    "",
    "CN",
    "'",
    "'CN",
    "a=b",
    "1",
    "-1.5",
    "+3",
    "-1e-5",
    "-.5",
    "'-1.5",
    "O'Neil",
    " =1",
    "sub-01",
    '"=1',
    "''",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_has_an_apostrophe_in_front(text) -> None:
    assert written(text) == f"'{text}" and as_read(written(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_and_numbers_stay_as_they_are(text) -> None:
    assert written(text) == text == as_read(text)


def test_every_text_is_read_as_it_was_written() -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices("'=+-@\t\r1.e a", k=generator.randrange(7))) for _ in range(20_000)]
    assert [as_read(written(text)) for text in texts] == texts
    assert len({written(text) for text in texts}) == len(set(texts))
    assert not any(text.startswith(("=", "@", "\t", "\r")) for text in map(written, texts))


def test_a_table_comes_back_with_its_names_and_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"id": [*FORMULAS, *PLAIN], "=name": range(31), "value": [-1.5 * index for index in range(31)], "-t": "x"}
    )
    write_csv(table, tmp_path / "table.csv")
    again = read_csv(tmp_path / "table.csv", texts=["id", "-t"], needed=["=name"], numbers=["value"], remedy="")
    pd.testing.assert_frame_equal(again, table)
    with (tmp_path / "table.csv").open(newline="") as stream:
        cells = [cell for line in csv.reader(stream) for cell in line]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n＝")) and as_read(f"'{cell}") == cell]


def test_a_table_without_formulas_is_written_as_pandas_writes_it(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": PLAIN, "value": [-0.1 * index for index in range(16)], "n": [None, *range(15)]})
    write_csv(table, tmp_path / "ours.csv")
    table.to_csv(tmp_path / "theirs.csv", index=False)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a table in CSV that can be read"),
        (b"case,fold\n\xff\xfe\x00,1\n", "is not a table in CSV that can be read"),
        (b'case,fold\n"a,1\nb,2\n', "is not a table in CSV that can be read"),
        (b"case,fold\na,1,2,3\nb,2\n", None),
        (b"case\na\n", "has no column 'fold'"),
        (b"case,fold\na,1\nb,x\n", "line 3: 'x' is no number as fold"),
        (b"case,fold\na,1\nb,inf\n", "no number as fold"),
        (b"case,fold\na,1\nb,\n", "line 3: '' is no number as fold"),
    ],
)
def test_a_damaged_table_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=message) as error:
        read_csv(path, texts=["case"], needed=["case"], numbers=["fold"], remedy="make it again")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(PathsError, match="make it again"):
        read_csv(tmp_path / "none.csv", remedy="make it again")


def test_classes_and_ids_that_are_formulas_go_through_the_whole_pipeline(fresh: Workspace, capsys) -> None:
    """They are marked in every CSV file, and are everywhere else what they were."""
    table = write_cohort(fresh.source)
    table.write_text(table.read_text().replace("\nsub", "\n-sub").replace(",sub", ",-sub"))
    for scan in fresh.source.glob("sub*.nii.gz"):
        scan.rename(scan.with_name(f"-{scan.name}"))
    arguments = ["7", "Formulas", "--table", str(table), "--target", "diagnosis", "-np", "1"]
    assert import_dataset.main([*arguments, "--label-map", "CN=+CN", "AD=@AD"]) == 0
    size = ["--input-size", "16", "16", "16", "--spacing", "5", "5", "5", "--brain-extraction", "none"]
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *size]) == 0
    assert quality.main(["-d", "7", "-np", "1"]) == 0
    fast = [
        "--set",
        "epochs=1",
        "--set",
        "warmup_epochs=0",
        "--set",
        "augmentation=none",
        "-tr",
        "ADNeXtTinyDenseNetTrainer",
        "-device",
        "cpu",
    ]
    assert train.main(["7", "3d_fullres", "cv", *fast]) == 0
    assert compare.main(["7", "ADNeXtTinyDenseNetTrainer", "ADNeXtTinyDenseNetTrainer"]) in (0, 2)
    run = fresh.results / "Dataset007_Formulas" / "ADNeXtTinyDenseNetTrainer__ADNeXtPlans__3d_fullres"
    prepared = str(fresh.preprocessed / "Dataset007_Formulas")
    assert predict.main(["-m", str(run), "-i", prepared, "-o", str(fresh.source / "out"), "-device", "cpu"]) == 0
    assert evaluate.main(["7", "-tr", "ADNeXtTinyDenseNetTrainer"]) == 0
    tables = [
        path
        for folder in (fresh.raw, fresh.preprocessed, fresh.results, fresh.source / "out")
        for path in folder.rglob("*.csv")
    ]
    assert len(tables) >= 9
    marked = 0
    for path in tables:
        with path.open(newline="") as stream:
            for cell in (cell for line in csv.reader(stream) for cell in line):
                assert written(as_read(cell)) == cell, (path, cell)
                marked += cell.startswith("'")
    assert marked > 100
    results = read_results(run)
    assert set(results.predictions["target"]) == {"+CN", "@AD"}
    assert all(subject.startswith("-sub") for subject in results.predictions["subject_id"])
    assert len(results.predictions) == 17 and "prob_+CN" in results.predictions
    content = json.loads((fresh.raw / "Dataset007_Formulas" / "dataset.json").read_text())
    assert set(content["adnext"]["classes"]) == {"+CN", "@AD"}
