"""The C++ programs of deploy/cpp against the package: `deploy/cpp/build_and_test` builds them and runs this file."""

import csv
import gzip
import io
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import toy_brain
from test_deployment_programs import TINY_VIT, made_model
from torch.nn import functional

from adnext_plugin.deployment.notes import ProgramNotes, card_of, package_version
from adnext_plugin.deployment.writers import write_program
from adnext_plugin.images import read_volume
from adnext_plugin.networks.families.liu import POLIMI_STAGES, LiuCNN, _encoder, _features
from adnext_plugin.plan import NetworkSettings, PreprocessingSettings
from adnext_plugin.prediction.eager import ensemble_of
from adnext_plugin.prediction.model import Model
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.training.plain_tensors import read_tensors

BUILD = Path(os.environ.get("ADNEXT_CPP", Path(__file__).parents[2] / "deploy" / "cpp" / "build"))
ONE_STEP = 2.0**-8  # between neighbours of float16 below 8

pytestmark = pytest.mark.skipif(
    not (BUILD / "adnext_predict_cpp").is_file(), reason="the C++ programs are not built; run deploy/cpp/build_and_test"
)


def _run(name: str, *words: object, code: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [BUILD / name, *map(str, words)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def _refused(name: str, *words: object) -> str:
    """What a program says of bad input: one line, and exit code 2."""
    done = _run(name, *words, code=2)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def _turned(degrees: float, spacing_xyz: tuple[float, float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, :3] = about_z @ about_x @ affine[:3, :3]
    affine[:3, 3] = -40, -35, -30
    return affine


def _write(path: Path, volume_xyz: np.ndarray, affine: np.ndarray, axes: str = "RAS") -> Path:
    """In another orientation, as whole numbers with a slope."""
    image = nibabel.Nifti1Image(volume_xyz, affine)
    wanted = nibabel.orientations.axcodes2ornt(axes)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted))
    image.set_data_dtype(np.int16)
    nibabel.save(image, path)
    return path


def _variants(folder: Path, volume_xyz: np.ndarray) -> list[Path]:
    """The scan as files that say what they are in different ways."""
    plain = np.diag([2.0, 2.0, 2.0, 1.0])
    by_quaternion = nibabel.Nifti1Image(volume_xyz, None, nibabel.Nifti1Header(endianness=">"))
    by_quaternion.set_qform(_turned(-9, (2.0, 2.1, 1.9)), 1)
    nibabel.save(by_quaternion, folder / "big_endian_qform.nii.gz")
    unsaid = nibabel.Nifti1Image(volume_xyz, plain)
    unsaid.set_sform(None, 0)
    unsaid.set_qform(None, 0)
    nibabel.save(unsaid, folder / "unsaid.nii")
    return [
        _write(folder / "las.nii.gz", volume_xyz, plain, "LAS"),
        _write(folder / "psr.nii", volume_xyz, plain, "PSR"),
        _write(folder / "oblique.nii.gz", volume_xyz, _turned(14, (2.0, 2.0, 2.0)), "LPI"),
        _write(folder / "anisotropic.nii.gz", volume_xyz[:, :, ::2], np.diag([2.0, 2.0, 4.0, 1.0])),
        folder / "big_endian_qform.nii.gz",
        folder / "unsaid.nii",
    ]


def _with_plan(model: Model, settings: PreprocessingSettings) -> Model:
    plan = replace(model.description.plan, preprocessing=settings)
    return replace(model, description=replace(model.description, plan=plan))


@pytest.mark.parametrize("fit", ["pad_crop", "resize"])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_scans_are_prepared_alike_whatever_their_files_say(tmp_path: Path, fit: str, interpolation: str) -> None:
    settings = PreprocessingSettings(
        fit=fit,
        interpolation=interpolation,
        brain_extraction="none",
        spacing_mm=(3.0, 2.6, 1.6),
        input_size_voxels=(28, 32, 30),
    )
    description = _with_plan(made_model(TINY_VIT, 32, folds=1), settings).description
    notes = ProgramNotes(
        written_with=package_version(),
        backend="torchscript",
        card=card_of(description),
        model=description,
        columns=(),
        may_be_unknown=False,
        inputs=("image_bczyx",),
        outputs=("answer_bk",),
        takes_any_batch=True,
        weights_sha256={},
    )
    (tmp_path / "plan.txt").write_text(notes.texts()["adnext_plain"])
    for scan in _variants(tmp_path, toy_brain(3, has_hole=True)):
        _run("adnext_prepare_cpp", tmp_path / "plan.txt", scan, tmp_path / "out.npy")
        found = np.load(tmp_path / "out.npy")
        expected = prepare(read_volume(scan), settings).volume_zyx.astype(np.float32)
        assert np.abs(found - expected).max() <= ONE_STEP, scan.name
        assert (found != expected).mean() < 0.005, scan.name


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _agree(model: Model, program: Path, scans: list[Path], *words: str) -> None:
    """The C++ program's answers are those of the package, from the files of the scans on."""
    ensemble = ensemble_of(model, "cpu")
    settings = replace(model.description.plan.preprocessing, brain_extraction="none")
    rows = _table(_run("adnext_predict_cpp", program, *scans, *words).stdout)
    assert [row["file"] for row in rows] == [str(scan) for scan in scans]
    known = dict(word.split("=") for word in words if "=" in word)
    person = pd.DataFrame([{name: known.get(name, "") for name in ensemble.columns}])
    for scan, row in zip(scans, rows, strict=True):
        answers = ensemble.answers(ensemble._networks(prepare(read_volume(scan), settings).image_czyx, person))
        for name, expected in zip(("CN", "AD"), answers.mean(axis=0), strict=True):
            assert float(row[f"prob_{name}"]) == pytest.approx(expected, abs=1e-4)
        assert float(row["spread"]) == pytest.approx(answers.std(axis=0)[-1], abs=1e-4)
        assert row["called"] == ("CN", "AD")[ensemble._call(answers.mean(axis=0))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model with covariates as TorchScript."""
    model = made_model(TINY_VIT, 32, covariates=("age", "sex"))
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    write_program(model, "torchscript", path)
    return model, path


def test_the_predictor_agrees_with_the_package_from_the_file_on(tiny: tuple[Model, Path], tmp_path: Path) -> None:
    model, path = tiny
    scans = _variants(tmp_path, toy_brain(5, has_hole=False))
    _agree(model, path, scans, "--covariate", "age=81", "--covariate", "sex=M")
    _agree(model, path, scans[:1], "--covariate", "age=60")  # of unknown sex
    volume = prepare(read_volume(scans[0]), model.description.plan.preprocessing).volume_zyx
    np.save(tmp_path / "prepared.npy", volume)
    both = _table(_run("adnext_predict_cpp", path, scans[0], tmp_path / "prepared.npy").stdout)
    assert float(both[0]["prob_AD"]) == pytest.approx(float(both[1]["prob_AD"]), abs=1e-4)


def test_the_predictor_runs_machine_code(tmp_path: Path) -> None:
    model = made_model(TINY_VIT, 32, folds=1)
    write_program(model, "aoti", tmp_path / "m.pt2")
    _agree(model, tmp_path / "m.pt2", _variants(tmp_path, toy_brain(5, has_hole=False))[:2])


def test_the_predictor_agrees_with_the_package_on_real_scans(tmp_path: Path, real_data: Path) -> None:
    options = {"init": "fan_in", "head_norm": "layer"}
    model = made_model(NetworkSettings(name="adnext_t", options=options), 64, folds=1)
    settings = PreprocessingSettings(spacing_mm=(3.0, 3.0, 3.0), input_size_voxels=(64, 64, 64))
    model = _with_plan(model, settings)
    write_program(model, "torchscript", tmp_path / "t.pt")
    found = sorted((real_data / "oasis1" / "images").glob("*_MR1.nii.gz"))[:5]
    volumes = [nibabel.load(path) for path in found]
    assert all(nibabel.aff2axcodes(volume.affine) == ("L", "A", "S") for volume in volumes)
    turned = volumes[3].affine @ np.linalg.inv(_turned(0, (1.0, 1.0, 1.0))) @ _turned(11, (1.0, 1.0, 1.0))
    nibabel.save(nibabel.Nifti1Image(volumes[3].get_fdata(dtype=np.float32), turned), tmp_path / "oblique.nii.gz")
    thick = volumes[4].affine @ np.diag([1.0, 1.0, 2.0, 1.0])
    thick_xyz = volumes[4].get_fdata(dtype=np.float32)[:, :, ::2]
    nibabel.save(nibabel.Nifti1Image(thick_xyz, thick), tmp_path / "anisotropic.nii.gz")
    _agree(model, tmp_path / "t.pt", [*found[:3], tmp_path / "oblique.nii.gz", tmp_path / "anisotropic.nii.gz"])


def test_bad_input_of_the_predictor_is_one_line(tiny: tuple[Model, Path], tmp_path: Path) -> None:
    _, path = tiny
    scan = _write(tmp_path / "scan.nii.gz", toy_brain(1, has_hole=False), np.diag([2.0, 2, 2, 1]))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(scan.read_bytes()[:3000])
    four = tmp_path / "four.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8, 3), np.float32), np.eye(4)), four)
    nan = tmp_path / "nan.nii"
    holed = toy_brain(1, has_hole=False)
    holed[20, 20, 20] = np.nan
    nibabel.save(nibabel.Nifti1Image(holed, np.eye(4)), nan)
    assert "cut.nii.gz cannot be read" in _refused("adnext_predict_cpp", path, cut)
    assert "has shape (8, 8, 8, 3), but one 3D volume is needed" in _refused("adnext_predict_cpp", path, four)
    assert "has 1 NaN or infinite voxels" in _refused("adnext_predict_cpp", path, nan)
    assert "gone.nii.gz does not exist" in _refused("adnext_predict_cpp", path, tmp_path / "gone.nii.gz")
    assert "gone.pt does not exist" in _refused("adnext_predict_cpp", tmp_path / "gone.pt", scan)
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(path.read_bytes()[:-5000])
    assert "it is damaged or no program" in _refused("adnext_predict_cpp", damaged, scan)
    assert "takes no such covariate" in _refused("adnext_predict_cpp", path, scan, "--covariate", "weight=3")
    assert "there is no option --fast" in _refused("adnext_predict_cpp", path, scan, "--fast")
    # one bad scan costs no other its answer
    done = _run("adnext_predict_cpp", path, cut, scan, "-o", tmp_path / "out.csv", code=2)
    assert [row["file"] for row in _table((tmp_path / "out.csv").read_text())] == [str(scan)]
    assert done.stderr.count("\n") == 1


def test_a_program_whose_answers_are_of_other_classes_is_refused(tiny: tuple[Model, Path], tmp_path: Path) -> None:
    _, path = tiny
    scan = _write(tmp_path / "scan.nii.gz", toy_brain(1, has_hole=False), np.diag([2.0, 2, 2, 1]))
    texts = {"adnext": "", "adnext_plain": ""}
    program = torch.jit.load(str(path), _extra_files=texts)
    plain = texts["adnext_plain"]
    plain = plain.decode() if isinstance(plain, bytes) else plain
    torch.jit.save(
        program, str(tmp_path / "m.pt"), _extra_files={"adnext_plain": plain.replace("\tCN\tAD", "\tCN\tMCI\tAD")}
    )
    assert "knows 3 classes, but its answers are others" in _refused("adnext_predict_cpp", tmp_path / "m.pt", scan)


def test_a_thousand_damaged_files_are_read_or_refused_under_the_address_sanitizer(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    brain = toy_brain(2, has_hole=True, shape=(16, 15, 17))
    plain = nibabel.Nifti1Image(brain, _turned(20, (2.0, 2.0, 3.0))).to_bytes()
    np.save(tmp_path / "whole.npy", brain.astype(np.float16))
    array = (tmp_path / "whole.npy").read_bytes()
    names = []
    for index in range(1000):
        whole, ending = ((plain, ".nii"), (plain, ".nii.gz"), (array, ".npy"))[index % 3]
        content = bytearray(whole)
        # the header is where the harm is
        reach = len(content) if index % 5 == 0 else min(len(content), 400)
        for place in generator.integers(0, reach, size=generator.integers(0, 6)):
            content[place] = generator.integers(0, 256)
        if index % 4 == 0:
            content = content[: generator.integers(0, len(content))]
        if ending == ".nii.gz":
            content = bytearray(gzip.compress(bytes(content), 1))
            if index % 2:
                content[generator.integers(0, len(content))] ^= 1 << int(generator.integers(0, 8))
        names.append(tmp_path / f"{index}{ending}")
        names[-1].write_bytes(content)
    said = _run("adnext_fuzz", *names).stdout
    files, refused = (int(word) for word in said.replace(",", "").split() if word.isdigit())
    assert files == 1000 and 300 < refused < 1000


def _polimi(size: int, expansion: int, classes: int) -> LiuCNN:
    """The package's network with other widths; 8 are the paper's."""
    stages = [stage._replace(width=stage.width * expansion // 8) for stage in POLIMI_STAGES]
    features = _features("polimi_cnn", stages, (size,) * 3)
    return LiuCNN(_encoder(stages, 1, "instance"), features, classes, relu=True, age=False)


def _training(folder: Path, size: int, classes: str = "AB", cases: int = 6) -> Path:
    lines = ["file,class,part"]
    for index in range(cases):
        generator = np.random.default_rng(index)
        np.save(folder / f"{index}.npy", generator.normal(index % 2, 1, (1, size, size, size)).astype(np.float16))
        lines.append(f"{index}.npy,{classes[index % len(classes)]},{'train' if index < cases - 1 else 'validation'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def test_ten_steps_of_training_lose_as_much_as_in_python(tmp_path: Path) -> None:
    size, steps, batch = 87, 10, 2
    table = _training(tmp_path, size)
    torch.manual_seed(0)
    network = _polimi(size, 1, 2)
    torch.save(dict(network.state_dict()), tmp_path / "start.pth")
    options = ["--classes", "A,B", "--as-listed", "--batch", batch, "--steps", steps, "--expansion", 1]
    weights = ["--weights", tmp_path / "start.pth", "-o", tmp_path / "end.safetensors"]
    said = _run("adnext_train_cpp", table, *options, *weights).stdout
    found = [float(line.split()[3]) for line in said.splitlines() if line.startswith("step")]
    optimiser = torch.optim.Adam(network.parameters(), lr=1.8e-3)
    expected = []
    while len(expected) < steps:
        for start in range(0, 5, batch)[: steps - len(expected)]:
            cases = range(start, min(start + batch, 5))
            images = torch.from_numpy(
                np.stack([np.load(tmp_path / f"{case}.npy").astype(np.float32) for case in cases])
            )
            optimiser.zero_grad()
            loss = functional.cross_entropy(network(images), torch.tensor([case % 2 for case in cases]))
            loss.backward()
            optimiser.step()
            expected.append(loss.item())
    assert len(found) == steps and max(expected) - min(expected) > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-3)
    saved = read_tensors(tmp_path / "end.safetensors")["network_weights"]
    _polimi(size, 1, 2).load_state_dict(saved)


def test_training_is_a_function_of_its_seed_and_bad_input_is_one_line(tmp_path: Path) -> None:
    table = _training(tmp_path, 90, cases=3)
    usual = ["--classes", "A,B", "--expansion", 1, "--batch", 1, "--crop", 87, "--steps", 2]
    usual += ["-o", tmp_path / "w.safetensors"]
    first, again, other = (_run("adnext_train_cpp", table, *usual, "--seed", seed).stdout for seed in (1, 1, 2))
    assert first == again != other
    torch.save(dict(_polimi(87, 1, 3).state_dict()), tmp_path / "three.pth")
    assert "head.3.weight has another shape; it is of other classes" in _refused(
        "adnext_train_cpp", table, *usual, "--weights", tmp_path / "three.pth"
    )
    assert "class B is not among --classes" in _refused("adnext_train_cpp", table, "--classes", "A,C", "-o", "x")
    assert "gone.csv does not exist" in _refused("adnext_train_cpp", tmp_path / "gone.csv", *usual)
    (tmp_path / "0.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "0.npy is damaged" in _refused("adnext_train_cpp", table, *usual)
