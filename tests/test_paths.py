"""Which folder a dataset's number or name means."""

from pathlib import Path

import pytest

from adnext_plugin.errors import PathsError
from adnext_plugin.paths import dataset_folder_name


def test_a_dataset_that_is_only_imported_is_to_be_prepared(tmp_path: Path, monkeypatch) -> None:
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    (raw / "Dataset007_Toy").mkdir(parents=True)
    preprocessed.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    with pytest.raises(PathsError, match="import one with adnext_import"):
        dataset_folder_name(7, [preprocessed])
    (raw / "Dataset007_Toy" / "dataset.json").write_text("{}")
    for name in (7, "7", "Dataset007_Toy"):
        with pytest.raises(PathsError, match=f"imported but not prepared: .*adnext_plan_and_preprocess -d {name}$"):
            dataset_folder_name(name, [preprocessed])
    with pytest.raises(PathsError, match="no dataset '8'"):
        dataset_folder_name(8, [preprocessed])
    (preprocessed / "Dataset007_Toy").mkdir()
    assert dataset_folder_name(7, [preprocessed]) == "Dataset007_Toy"
