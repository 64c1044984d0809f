"""The tutorial runs from its first cell to its last, and is kept without outputs."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def test_the_tutorial_runs_and_predicts_people_whom_it_has_not_seen(tmp_path, monkeypatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "ADNEXT_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(PAGE, as_version=4)
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    printed = {
        cell["source"]: "".join(out.get("text", "") for out in cell["outputs"])
        for cell in notebook.cells[1::1]
        if cell["cell_type"] == "code"
    }
    assert any("20 cases are in" in text for text in printed.values())
    shown = [out["data"] for out in notebook.cells[-1]["outputs"] if out["output_type"] == "execute_result"]
    assert "prob_patient" in shown[-1]["text/plain"] and "sub-016_ses-01_T1w" in shown[-1]["text/plain"]
    figures = [
        out
        for cell in notebook.cells
        if cell["cell_type"] == "code"
        for out in cell["outputs"]
        if "image/png" in out.get("data", {})
    ]
    assert len(figures) == 3
    assert (tmp_path / "tutorial" / "nnUNet_results").is_dir()


def test_the_tutorial_is_kept_without_outputs_and_without_paths_of_a_machine() -> None:
    notebook = nbformat.read(PAGE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert "/home/" not in PAGE.read_text() and "/tmp/" not in PAGE.read_text()
