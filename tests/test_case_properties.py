"""What preprocessing notes of a case: read without running it, by everything that reads it."""

import collections
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import empty_workspace, write_cohort

from adnext_plugin.case_properties import PROPERTIES, CaseProperties, read_case_properties, write_case_properties
from adnext_plugin.cli import import_dataset, plan_and_preprocess, quality
from adnext_plugin.errors import PathsError

UNIT = ((2.0, 0.0, 0.0, -1.0), (0.0, 2.0, 0.0, -2.0), (0.0, 0.0, 2.0, -3.0), (0.0, 0.0, 0.0, 1.0))
CASE = CaseProperties(
    fit="resize",
    brain_litres=1.2,
    ras_shape_voxels=(40, 50, 60),
    ras_affine=UNIT,
    spacing_mm=(2.0, 2.0, 2.0),
    foreground_box=((1, 30), (2, 40), (3, 50)),
    resampled_shape_voxels=(32, 32, 32),
    share_of_foreground_cut_off=0.01,
    key="abc",
    mask="brain.nii.gz",
    scan_from_mni_mm=UNIT,
)
# as version 0.1.0 wrote it
OLD = {
    "fit": "pad_crop",
    "brain_litres": 0.17,
    "ras_shape_voxels": (38, 40, 36),
    "ras_affine": [list(row) for row in UNIT],
    "spacing_mm": (2.0, 2.0, 2.0),
    "foreground_box": [[2, 36], [2, 38], [2, 34]],
    "resampled_shape_voxels": (27, 29, 26),
    "share_of_foreground_cut_off": 0.0,
    "mask": None,
    "key": "976cd",
}


class Planted:
    """Makes a file when it is unpickled by a reader that follows instructions."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self._trace),)


def test_what_is_written_is_read(tmp_path) -> None:
    write_case_properties(CASE, tmp_path / "a.pkl")
    assert read_case_properties(tmp_path / "a.pkl") == CASE
    # nnU-Net reads the file, too: it must be a dict
    assert pickle.loads((tmp_path / "a.pkl").read_bytes())["spacing_mm"] == (2.0, 2.0, 2.0)


def test_files_of_version_0_1_0_are_read(tmp_path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(OLD))
    found = read_case_properties(tmp_path / "a.pkl")
    assert (found.key, found.mask, found.foreground_box) == ("976cd", None, ((2, 36), (2, 38), (2, 34)))
    assert found.scan_from_mni_mm is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2]), "is not what adnext_plan_and_preprocess notes"),
        (pickle.dumps({"class_locations": {}, "spacing": [1, 1, 1]}), "is not what adnext_plan_and_preprocess notes"),
        (pickle.dumps(OLD | {"brain_litres": np.float64(1)}), "more than plain data .*numpy"),
        (pickle.dumps(OLD | {"mask": collections.OrderedDict()}), "more than plain data .*collections.OrderedDict"),
        (pickle.dumps(OLD | {"colour": 1}), "unknown key 'colour'"),
        (pickle.dumps({key: value for key, value in OLD.items() if key != "key"}), "'key' is missing"),
        (pickle.dumps(OLD | {"spacing_mm": "wide"}), "spacing_mm = 'wide'"),
        (pickle.dumps(PROPERTIES.stamped(OLD) | {"format_version": 99}), "format version 99, .* reads up to 2"),
        (pickle.dumps(OLD)[:-20], "is damaged, or more than plain data"),
        (b"", "is damaged, or more than plain data"),
        (b"not a pickle", "is damaged, or more than plain data"),
        (b"\x80\x04" + b"\xff" * 50, "is damaged, or more than plain data"),
        (pickle.dumps("x" * (1 << 20)), "too large"),
    ],
)
def test_anything_odd_is_refused_in_one_line_that_names_the_file_and_what_to_do(tmp_path, content, message) -> None:
    path = tmp_path / "case.pkl"
    path.write_bytes(content)
    with pytest.raises(PathsError, match=message) as found:
        read_case_properties(path)
    said = str(found.value)
    assert str(path) in said and "run adnext_plan_and_preprocess" in said and "\n" not in said


def test_a_pickle_that_would_make_a_folder_makes_none(tmp_path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(OLD | {"mask": Planted(trace)}))
    with pytest.raises(PathsError, match="mkdir"):
        read_case_properties(tmp_path / "a.pkl")
    assert not trace.exists()
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert trace.exists(), "the pickle of this test is harmless"


def test_planted_pickles_are_prepared_again_and_named_by_the_quality_report(tmp_path, monkeypatch, capsys) -> None:
    workspace = empty_workspace(tmp_path)
    workspace.use(monkeypatch)
    table = write_cohort(workspace.source, 4)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--unlabelled", "--with-masks", "-np", "1"]) == 0
    arguments = ["-d", "7", "-np", "1", "--input-size", *["32"] * 3, "--spacing", *["2.5"] * 3, "--no-splits"]
    assert plan_and_preprocess.main(arguments) == 0
    cases = workspace.preprocessed / "Dataset007_Toy" / "ADNeXtPlans_3d_fullres"
    before = {path.name: path.read_bytes() for path in cases.iterdir()}
    trace = tmp_path / "trace"
    planted = pickle.dumps(OLD | {"mask": Planted(trace)})
    for case in ("sub01_M00", "sub02_M00"):
        (cases / f"{case}.pkl").write_bytes(planted)
    capsys.readouterr()
    assert quality.main(["-d", "7", "-np", "1"]) == 2
    said = capsys.readouterr().err
    assert "sub01_M00.pkl is damaged, or more than plain data" in said and "run adnext_plan_and_preprocess" in said
    assert plan_and_preprocess.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in cases.iterdir()} == before
    assert quality.main(["-d", "7", "-np", "1"]) == 0
    assert not trace.exists()


def test_a_prepared_dataset_with_a_planted_pickle_is_predicted_but_for_that_scan(trained, tmp_path, capsys) -> None:
    from adnext_plugin.cli import predict

    folder = trained.workspace.preprocessed / "Dataset301_Toy"
    shutil.copytree(folder, tmp_path / "Dataset301_Toy")
    trace = tmp_path / "trace"
    case = tmp_path / "Dataset301_Toy" / "ADNeXtPlans_3d_fullres" / "sub03_M00.pkl"
    case.write_bytes(pickle.dumps(OLD | {"mask": Planted(trace)}))
    arguments = ["-i", str(tmp_path / "Dataset301_Toy"), "-o", str(tmp_path / "out"), "-m", str(trained.run)]
    assert predict.main([*arguments, "-device", "cpu"]) == 2
    assert "sub03_M00.pkl is damaged, or more than plain data" in capsys.readouterr().err
    assert not trace.exists()
