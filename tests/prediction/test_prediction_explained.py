"""`adnext_predict --explain`: maps of new scans, the mean of all networks' maps, over the scans."""

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from adnext_plugin.cli import predict
from adnext_plugin.explanations.grad_cam import GradCAM, GradCAMSettings
from adnext_plugin.files import read_json
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.training.precision import Arithmetic

METHOD = ["--explain", "grad_cam", "--explain-set", "positive_only=false"]


def _arguments(trained, model, output, *options: str) -> list[str]:
    source = trained.workspace.source
    lines = (source / "table.csv").read_text().splitlines()[:3]
    table = output.parent / "two.csv"
    table.write_text("\n".join(lines) + "\n")
    where = ["-i", str(table), "--images", str(source), "-o", str(output), "-m", str(model), "-device", "cpu"]
    return [*where, "-np", "1", *options]


def test_the_map_of_a_new_scan_is_the_mean_of_all_networks_over_the_scan(trained, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    options = [*METHOD, "--target", "CN", "--animate", "gif"]
    assert predict.main(_arguments(trained, trained.run, output, *options)) == 0
    assert f"Maps are in {output / 'explanations'}" in capsys.readouterr().out
    table = pd.read_csv(output / "explanations" / "maps.csv").set_index("case_id")
    predictions = pd.read_csv(output / "predictions.csv").set_index("case_id")
    assert table["called"].to_dict() == predictions["called"].to_dict() and len(table) == 2
    assert table["networks_agree"].between(-1, 1).all()
    how = read_json(output / "explanations" / "settings.json")
    assert how["target"] == "CN" and how["settings"]["positive_only"] is False
    case = table.index[0]
    written = nibabel.load(output / "explanations" / f"{case}.nii.gz")
    scan = nibabel.load(trained.workspace.source / f"{case}.nii.gz")
    assert written.shape == scan.shape
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-4)
    assert Image.open(output / "explanations" / f"{case}.gif").n_frames > 10
    # the mean of the four networks' own maps, at the voxels that both grids share
    model = read_run(RunFolder(trained.run))
    people = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv").set_index("case_id")
    import blosc2

    stored = trained.workspace.preprocessed / "Dataset301_Toy" / "ADNeXtPlans_3d_fullres" / f"{case}.b2nd"
    image_czyx = blosc2.open(str(stored))[:]
    maps, scores = [], []
    for index in range(4):
        fold = FoldNetwork(model, index, "cpu")
        explained = fold.explained(people.loc[[case]])
        image = fold.input_of(image_czyx)
        maps.append(GradCAM(GradCAMSettings(positive_only=False))(explained, image, "CN"))
        scores.append(float(explained.scores(explained.tensor(image), 0)[0]))
    assert table.loc[case, "score"] == pytest.approx(np.mean(scores), rel=1e-3, abs=1e-4)
    mean = np.mean(maps, axis=0)
    assert written.get_fdata().max() == pytest.approx(mean.max(), rel=0.1)


def test_an_installed_bundle_explains_as_well(trained, tmp_path) -> None:
    from adnext_plugin.cli import install

    assert install.main([str(trained.bundle)]) == 0
    outputs = [tmp_path / name for name in ("run", "bundle")]
    for output, model in zip(outputs, (trained.run, "toy"), strict=True):
        assert predict.main(_arguments(trained, model, output, *METHOD)) == 0
    first, second = (pd.read_csv(output / "explanations" / "maps.csv") for output in outputs)
    np.testing.assert_allclose(first["score"], second["score"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain", "gradcam"], "no explanation 'gradcam'; did you mean 'grad_cam'"),
        (["--explain", "grad_cam", "--target", "MCI"], "the model knows no target 'MCI'"),
        (["--explain", "grad_cam", "--explain-set", "layer=head"], "layer 'head' does not tell places apart"),
        (["--target", "AD"], "give --explain METHOD with them"),
    ],
)
def test_impossible_maps_are_one_line(trained, tmp_path, capsys, options: list[str], message: str) -> None:
    assert predict.main(_arguments(trained, trained.run, tmp_path / "out", *options)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out" / "explanations").exists()
    # predictions are not lost of it
    assert (tmp_path / "out" / "predictions.csv").is_file() == ("layer=head" in options)


def test_want_of_a_gpus_memory_costs_a_scan_or_its_map_and_no_other(trained, tmp_path, monkeypatch, capsys) -> None:
    calls, predicted = [], FoldNetwork.__call__

    def short_once(self, image_czyx, row):
        calls.append(row.index[0])
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return predicted(self, image_czyx, row)

    def short(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(FoldNetwork, "__call__", short_once)
    monkeypatch.setattr(GradCAM, "compute", short)
    assert predict.main(_arguments(trained, trained.run, tmp_path / "out", *METHOD)) != 0
    lost, found = pd.read_csv(tmp_path / "out" / "predictions.csv").to_dict("records")
    assert lost["error"].startswith("the GPU's memory ran out; end other programs") and 0 < found["prob_AD"] < 1
    assert "the GPU's memory ran out; let the method take fewer images at once" in capsys.readouterr().err


def test_maps_are_of_float32_whatever_a_run_computes_in(trained, monkeypatch) -> None:
    people = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv")
    fold = FoldNetwork(read_run(RunFolder(trained.run)), 0, "cpu")
    half = Arithmetic(precision="bfloat16", device=torch.device("cpu"))
    monkeypatch.setattr(fold, "arithmetic", half)
    explained = fold.explained(people.iloc[[0]])
    assert explained.arithmetic == Arithmetic(precision="float32", device=torch.device("cpu"))
