"""The tutorial runs from its first cell to its last, and is kept without outputs."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def test_the_tutorial_runs_and_predicts_people_whom_it_has_not_seen(tmp_path, monkeypatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "ADNEXT_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(PAGE, as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in notebook.cells if cell["cell_type"] == "code" for out in cell["outputs"]]
    assert "20 cases are in" in "".join(out.get("text", "") for out in outputs)
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 3
    predictions = outputs[-1]["data"]["text/plain"]
    assert "prob_patient" in predictions and "sub-016_ses-01_T1w" in predictions
    assert (tmp_path / "tutorial" / "nnUNet_results").is_dir()


def test_the_tutorial_is_kept_without_outputs_and_without_paths_of_a_machine() -> None:
    notebook = nbformat.read(PAGE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert "/home/" not in PAGE.read_text() and "/tmp/" not in PAGE.read_text()
