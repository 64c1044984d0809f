"""The examples of docs/api.md run, one after the other, and the page names everything that there is."""

import re
from pathlib import Path

import pandas as pd
from conftest import write_cohort

import adnext_plugin

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def test_the_examples_run_one_after_the_other(fresh, tmp_path, monkeypatch, capsys) -> None:
    write_cohort(tmp_path / "cohort")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(code, "docs/api.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "17 cases in" in printed and "4 folds; 17 scans prepared" in printed
    assert "no network 'adnxt_t'; did you mean 'adnext_t'?" in printed
    assert names["table"]["case_id"].tolist() == ["sub00_M00", "sub01_M00"]
    assert len(names["everyone"]) == 17 and not names["everyone"]["error"].any()
    # ages of the table and of the example are the same, and so are answers
    by_case = names["everyone"].set_index("case_id").loc[["sub00_M00", "sub01_M00"], "prob_AD"]
    pd.testing.assert_series_equal(names["table"].set_index("case_id")["prob_AD"], by_case, check_exact=True)


def test_the_table_names_all_functions_of_the_package() -> None:
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .*$", PAGE, re.MULTILINE))))
    functions = {name for name in adnext_plugin.__all__ if name.islower()}
    assert functions <= listed
