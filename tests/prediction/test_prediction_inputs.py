"""Prediction finds the files that importing finds, by the same walker and the same options."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from adnext_plugin.cli.predict import build_parser
from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.importing.image_files import images_below
from adnext_plugin.prediction.inputs import Inputs, of_files, read_inputs
from adnext_plugin.workflows.import_source import SourceChoice, read_source

NO_TABLE: dict = {"images": None, "image_pattern": None, "columns": {}}


def _tree(root: Path) -> Path:
    """Five people, one file each in `anat`, as people name them; two folders are links."""
    store = root.parent / "store"
    for path in (
        root / "sub-A/anat/sub-A_T1w.NII.GZ",
        root / "sub-B/anat/sub-B_T1w.mgz",
        root / "sub-B/anat/._sub-B_T1w.mgz",
        root / "sub-C/anat/sub-C_T1w.nii",
        root / "sub-C/anat/.sub-C_T1w.nii.gz",
        store / "D/anat/sub-D_T1w.nii.gz",
        store / "E/sub-E_T1w.MGZ",
        root / "sub-F/anat/sub-F_T1w.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "sub-D").symlink_to(store / "D")
    (root / "sub-E").mkdir()
    (root / "sub-E" / "anat").symlink_to(store / "E")
    return root


def _predicted(root: Path, *entities: str) -> Inputs:
    one_image = SimpleNamespace(images=None)  # a tree is read without looking at more of the model
    return read_inputs(str(root), one_image, [], NO_TABLE, "T1w", entities)  # type: ignore[arg-type]


def _imported(root: Path, *entities: str) -> dict[str, Path]:
    source = read_source(SourceChoice(bids=root, entities=entities), by_time=False)
    return {scan.subject_id: scan.image for scan in source.scans}


def test_a_folder_holds_the_same_files_for_prediction_and_import(tmp_path: Path) -> None:
    root = _tree(tmp_path / "tree")
    as_folder = of_files(images_below(root), root).scans
    (root / "dataset_description.json").write_text("{}")
    as_tree = {scan.image for scan in _predicted(root).scans}
    imported = _imported(root)
    assert set(imported) == {f"sub-{letter}" for letter in "ABCDE"}
    assert {scan.image for scan in as_folder} == as_tree == set(imported.values())
    assert [scan.case_id for scan in as_folder] == [f"sub-{letter}/anat/sub-{letter}_T1w" for letter in "ABCDE"]


def test_the_entities_that_chose_among_images_at_import_choose_the_same_ones_at_prediction(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for person in "AB":
        for name in ("acq-mprage", "acq-spgr"):
            path = root / f"sub-{person}" / "anat" / f"sub-{person}_{name}_T1w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (root / "dataset_description.json").write_text("{}")
    for acquisition in ("mprage", "spgr"):
        wanted = f"acq={acquisition}"
        found = {scan.image for scan in _predicted(root, wanted).scans}
        assert found == set(_imported(root, wanted).values())
        assert {path.name for path in found} == {f"sub-{person}_acq-{acquisition}_T1w.nii.gz" for person in "AB"}
    with pytest.raises(TableError, match="acq"):
        _predicted(root)
    with pytest.raises(SettingsError, match="--entity 'acq'"):
        _predicted(root, "acq")


def test_the_command_takes_entities_as_import_does() -> None:
    arguments = ["-i", "tree", "-o", "out", "-m", "run", "--entity", "acq=mprage", "ce=none"]
    assert build_parser().parse_args(arguments).entity == ["acq=mprage", "ce=none"]
