"""Models as programs: what is written answers as the model does, and says what it is."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from conftest import Trained
from torch import nn

from adnext_plugin.cli import export, predict
from adnext_plugin.deployment.kinds import SUFFIXES
from adnext_plugin.deployment.notes import ANSWER, CALLED, COVARIATES, DISTANCES, IMAGE, OUTPUTS, SPREAD, ProgramNotes
from adnext_plugin.deployment.parity import people, require_parity
from adnext_plugin.deployment.runner import OnnxRunner, Runner, open_program, program_ensemble, program_inputs
from adnext_plugin.deployment.writers import write_program
from adnext_plugin.errors import AdnextError, BundleError, ExportError, SettingsError
from adnext_plugin.networks.build import build_planned_network
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.prediction.bundle import write_bundle
from adnext_plugin.prediction.description import FoldDescription, ModelDescription, Range
from adnext_plugin.prediction.eager import ensemble_of
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.prediction.model import FoldModel, Model
from adnext_plugin.records import to_json
from adnext_plugin.registry import NETWORKS, load, registered_names
from adnext_plugin.task import Task
from adnext_plugin.training.checkpoint_notes import TargetScale
from adnext_plugin.training.covariates import CovariateScale

# torch writes a book about every graph for loggers that take all, as pytest's does
logging.getLogger("torch.__trace").setLevel(logging.CRITICAL)

TWO, THREE = Task(name="AD", target="diagnosis", classes=("CN", "AD")), ("CN", "MCI", "AD")
TINY_VIT = NetworkSettings(name="vit_small_mim", options={"width": 24, "mlp_width": 24, "depth": 1, "num_heads": 2})


def made_model(
    network: NetworkSettings, size: int, task: Task = TWO, *, folds: int = 2, features: int = 0, **training
) -> Model:
    """A model of fresh networks, whose features have a profile of so many numbers."""
    plan = Plan(
        preprocessing=PreprocessingSettings(input_size_voxels=(size,) * 3),
        network=network,
        training=training,
        task=task,
    )
    generator = np.random.default_rng(0)
    usual = Range(lower_quartile=0.9, median=1.1, upper_quartile=1.3, cases=9)
    descriptions, models = [], []
    for fold in range(folds):
        torch.manual_seed(fold)
        built = build_planned_network(plan, 1)
        for name, parameter in built.named_parameters():
            if "covariate" in name:
                nn.init.normal_(parameter)
        names = training.get("covariates", ())
        descriptions.append(
            FoldDescription(
                name=str(fold),
                temperature=1.0 if task.kind == "regression" else 0.3 + fold,
                threshold=0.4 + 0.1 * fold if len(task.classes) == 2 else None,
                target_scale=TargetScale(mean=70.0, standard_deviation=9.0) if task.kind == "regression" else None,
                covariate_scale=CovariateScale(names=names, means=(72.0, 0.4)[: len(names)], deviations=(8.0, 0.5))
                if names
                else None,
                feature_distance=usual if features else None,
                precision="float32",
            )
        )
        profile = FeatureProfile.of(generator.normal(size=(40, features))) if features else None
        models.append(FoldModel(weights=built.state_dict(), features=profile))
    description = ModelDescription(
        dataset="Dataset301_Toy",
        trainer="ADNeXtTrainer",
        plans_name="ADNeXtPlans",
        configuration="3d_fullres",
        protocol="honest",
        plan=plan,
        in_channels=1,
        stored_spacing_mm=(1.75, 1.75, 1.75),
        folds=tuple(descriptions),
        ranges={},
        trained_with={"torch": torch.__version__},
    )
    return Model(description=description, folds=tuple(models))


def _answers_of(model: Model, runner: Runner) -> None:
    """Everything that a program says is what the model's ensemble says, one by one and together."""
    ensemble = ensemble_of(model, "cpu")
    generator = np.random.default_rng(1)
    size = model.description.plan.preprocessing.input_size_voxels
    images = generator.normal(size=(3, 1, *size)).astype(np.float16).astype(np.float32)
    inputs = {IMAGE: images}
    rows = people(runner.notes)
    if runner.notes.columns:
        inputs[COVARIATES] = rows.to_numpy(dtype=np.float32).copy()
    found = runner(inputs)
    other = program_ensemble(runner)
    assert other.columns == ensemble.columns and other.not_checked == ensemble.not_checked
    for index, image in enumerate(images):
        networks = ensemble._networks(image.astype(np.float16), rows.iloc[[index]])
        answers = ensemble.answers(networks)
        np.testing.assert_allclose(found[ANSWER][index], answers.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[SPREAD][index], answers.std(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[OUTPUTS][index], [one.outputs for one in networks], rtol=1e-4, atol=1e-5)
        if CALLED in found:
            assert found[CALLED][index] == ensemble._call(answers.mean(axis=0))
        if DISTANCES in found:
            distances = [one.feature_distance for one in networks]
            np.testing.assert_allclose(found[DISTANCES][index], distances, rtol=1e-4)
        again = other._networks(image.astype(np.float16), rows.iloc[[index]])
        np.testing.assert_allclose(again[-1].outputs, networks[-1].outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["onnx", "torchscript"])
def test_a_program_says_what_the_model_says_with_covariates_cut_threshold_and_features(tmp_path, ending: str) -> None:
    options = {"covariates": ("age", "sex"), "crop_voxels": (32, 32, 32)}
    model = made_model(TINY_VIT, 37, features=24, **options)
    path = tmp_path / f"m{SUFFIXES[ending]}"
    assert write_program(model, ending, path) < 1e-5
    runner = open_program(path)
    _answers_of(model, runner)
    notes = runner.notes
    assert notes.takes_any_batch and notes.columns == ("age", "sex")
    assert to_json(notes.model) == to_json(model.description)
    assert "probability of CN, AD" in notes.card and "not a medical device" in notes.card
    write_bundle(model, tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        digests = {name: hashlib.sha256(bundle.read(f"fold_{name}.safetensors")).hexdigest() for name in "01"}
    assert notes.weights_sha256 == digests
    others = replace(model, folds=(model.folds[1], model.folds[0]))
    with pytest.raises(ExportError, match=r"differ from the model's by .*, more than 1e-04"):
        require_parity(others, runner)


@pytest.mark.parametrize(
    "task",
    [
        Task(name="three", target="diagnosis", classes=THREE),
        Task(name="age", kind="regression", target="age"),
    ],
    ids=["three classes", "a number"],
)
def test_a_program_of_more_classes_or_of_a_number_says_what_the_model_says(tmp_path, task: Task) -> None:
    model = made_model(TINY_VIT, 32, task)
    assert write_program(model, "torchscript", tmp_path / "m.pt") < 1e-5
    runner = open_program(tmp_path / "m.pt")
    _answers_of(model, runner)
    assert (CALLED in runner.notes.outputs) == bool(task.classes)


def test_rounded_weights_make_a_smaller_file_whose_answers_are_close_and_which_says_so(tmp_path, capsys) -> None:
    network = NetworkSettings(name="vit_small_mim", options={"width": 96, "mlp_width": 384, "depth": 1, "num_heads": 2})
    model = made_model(network, 32, folds=1)
    assert write_program(model, "onnx", tmp_path / "m.onnx") < 1e-5
    assert 1e-6 < write_program(model, "onnx", tmp_path / "r.onnx", "int8") < 0.05
    assert (tmp_path / "r.onnx").stat().st_size < 0.5 * (tmp_path / "m.onnx").stat().st_size
    plain, rounded = (open_program(tmp_path / name).notes for name in ("m.onnx", "r.onnx"))
    assert (plain.weights, rounded.weights) == ("float32", "int8")
    assert replace(rounded, weights="float32") == plain
    assert export.main([str(tmp_path), "-o", "m.pt", "--weights", "int8"]) == 2
    assert "--weights int8: only programs in ONNX" in capsys.readouterr().err


def test_a_program_of_a_model_trained_in_half_precision_computes_in_float32(tmp_path) -> None:
    model = made_model(TINY_VIT, 32)
    folds = tuple(replace(fold, precision="bfloat16") for fold in model.description.folds)
    in_half = replace(model, description=replace(model.description, folds=folds))
    assert write_program(in_half, "torchscript", tmp_path / "m.pt") < 1e-5
    runner = open_program(tmp_path / "m.pt")
    assert {fold.precision for fold in runner.notes.model.folds} == {"float32"}
    _answers_of(model, runner)


def test_ages_that_a_network_takes_as_they_are_must_be_known() -> None:
    description = made_model(TINY_VIT, 32, folds=1).description
    plan = replace(description.plan, network=NetworkSettings(name="liu_cnn", options={"age_branch": True}))
    notes = ProgramNotes(
        written_with="0.1.0",
        backend="onnx",
        card="",
        model=replace(description, plan=plan),
        columns=("age",),
        may_be_unknown=False,
        inputs=(IMAGE, COVARIATES),
        outputs=(ANSWER, SPREAD, OUTPUTS, CALLED),
        takes_any_batch=True,
        weights_sha256={},
    )
    images = np.zeros((1, 1, 2, 2, 2), dtype=np.float16)
    assert program_inputs(notes, images, pd.DataFrame({"age": ["70.5"]}))[COVARIATES].tolist() == [[70.5]]
    with pytest.raises(SettingsError, match="needs the age of every case"):
        program_inputs(notes, images, pd.DataFrame({"age": [""]}))


SMALLEST = {"liu_cnn": 71, "polimi_cnn": 87, "resenc_l": 64}


def _own_gradients(output: torch.Tensor) -> list[str]:
    """Names of the steps behind an output whose gradient is written in Python, and which no program can hold."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return [node.name() for node in seen if isinstance(node, torch.autograd.function.BackwardCFunction)]


@pytest.mark.parametrize("name", registered_names(NETWORKS))
def test_every_network_is_made_of_ordinary_operators_outside_training(name: str) -> None:
    """Looked at without data, in a moment; benchmarks/exports.py writes each in every format and compares answers."""
    size = (SMALLEST.get(name, 32),) * 3
    with torch.device("meta"):
        network = load(NETWORKS, name)(1, 2, size).eval()
        output = network(torch.empty(2, 1, *size))
    assert output.requires_grad and _own_gradients(output) == []


def test_steps_with_gradients_of_their_own_would_be_found() -> None:
    network = load(NETWORKS, "adnext_t")(1, 2, (32, 32, 32)).train()
    assert "_GeluResponseNormFunctionBackward" in _own_gradients(network(torch.zeros(2, 1, 32, 32, 32)))


def test_the_commands_write_a_run_as_onnx_and_predict_with_it_as_with_the_run(
    trained: Trained, tmp_path, capsys
) -> None:
    file = tmp_path / "toy.onnx"
    assert export.main([str(trained.run), "-o", str(file), "--folds", "2", "-device", "cpu"]) == 0
    assert "differ from the model's by" in capsys.readouterr().out
    properties = {one.key: one.value for one in onnx.load(file).metadata_props}
    assert json.loads(properties["adnext"])["model"]["plan"]["task"]["classes"] == ["CN", "AD"]
    assert "classes\tCN\tAD\n" in properties["adnext_plain"]
    subjects = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv", dtype=str)
    for secret in {*subjects["case_id"], *subjects["subject_id"], *subjects["image_sha256"], str(tmp_path)}:
        assert secret.encode() not in file.read_bytes(), secret
    found = []
    for model, words in ((trained.run, ["--folds", "2"]), (file, []), (file, ["--backend", "onnx"])):
        folder = tmp_path / f"out_{len(found)}"
        scans = ["-i", str(trained.workspace.source / "table.csv"), "-o", str(folder), "-np", "1"]
        assert predict.main([*scans, "-m", str(model), *words]) == 0
        found.append(pd.read_csv(folder / "predictions.csv", keep_default_na=False))
    columns = ["prob_CN", "prob_AD", "spread"]
    for table in found[1:]:
        np.testing.assert_allclose(table[columns].astype(float), found[0][columns].astype(float), atol=1e-5)
        assert (table["called"] == found[0]["called"]).all()
        assert (table["feature_distance"].astype(float) > 0).all()
    assert capsys.readouterr().out.count("on cpu, by onnx") == 2
    stored = min((trained.workspace.preprocessed / "Dataset301_Toy" / "ADNeXtPlans_3d_fullres").glob("*.b2nd"))
    words = ["-i", str(stored), "-o", str(tmp_path / "one"), "-m", str(file)]
    code = f"import sys\nfrom adnext_plugin.cli.predict import main\nassert main({words!r}) == 0\n"
    code += "assert not {'torch', 'nnunetv2', 'monai'} & set(sys.modules)"  # seconds of a start
    subprocess.run([sys.executable, "-c", code], check=True)
    (one,) = pd.read_csv(tmp_path / "one" / "predictions.csv").to_dict("records")
    same = found[0].set_index("case_id").loc[stored.stem]
    assert one["case_id"] == stored.stem and one["prob_AD"] == pytest.approx(float(same["prob_AD"]), abs=1e-4)
    for words, message in (
        (["--backend", "eager"], "is a program; give the run or the bundle"),
        (["--backend", "torchscript"], "is no program of torchscript"),
        (["-f", "2"], "a program's networks are one"),
        (["-device", "cuda"], "programs run on the processor"),
    ):
        assert predict.main([*scans, "-m", str(file), *words]) == 2
        assert message in capsys.readouterr().err
    # a file that is there is not replaced
    assert export.main([str(trained.run), "-o", str(file), "-device", "cpu"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("m.onnx", b"not ONNX", BundleError, "it is damaged or no program"),
        ("m.pt", b"not TorchScript", BundleError, "it is damaged or no program"),
        ("m.zip", b"", SettingsError, "its name must end in .onnx for onnx"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(tmp_path, name, content, error, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as refusal:
        open_program(tmp_path / name)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(shutil.which("g++") is None, reason="machine code needs a compiler of C++")
def test_machine_code_says_what_the_model_says(tmp_path) -> None:
    model = made_model(TINY_VIT, 32, folds=1)
    assert write_program(model, "aoti", tmp_path / "m.pt2") < 1e-5
    _answers_of(model, open_program(tmp_path / "m.pt2", "aoti"))


def test_machine_code_is_only_opened_where_it_is_asked_for(tmp_path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"not machine code")
    with pytest.raises(SettingsError, match="machine code, which runs when it is opened; give --backend aoti"):
        open_program(tmp_path / "m.pt2")
    with pytest.raises(BundleError, match="it is damaged or no program") as refusal:
        open_program(tmp_path / "m.pt2", "aoti")
    assert "\n" not in str(refusal.value)


def test_programs_of_others_are_refused(tmp_path) -> None:
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "other", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, ir_version=9, opset_imports=opset), tmp_path / "other.onnx")
    with pytest.raises(AdnextError, match="is not a program of adnext_export"):
        OnnxRunner(tmp_path / "other.onnx")
    traced = torch.jit.trace(nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.jit.save(traced, tmp_path / "other.pt")
    with pytest.raises(AdnextError, match="is not a program of adnext_export"):
        open_program(tmp_path / "other.pt")


def test_what_cannot_be_written_is_said_and_leaves_no_file(tmp_path, install) -> None:
    code = (
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    key_to_encoder = 'encoder'\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.encoder = torch.nn.Identity()\n"
        "        self.head = torch.nn.Linear(1, 2)\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.tensor([[float(x.sum().item())]] * len(x)))\n"
        "def odd(in_channels, num_outputs, size): return Odd()\n"
    )
    install("odd_package", code, {NETWORKS: {"odd": "odd"}})
    model = made_model(NetworkSettings(name="odd"), 4, folds=1)
    for to, name in (("torchscript", "m.pt"), ("onnx", "m.onnx")):
        with pytest.raises(ExportError, match=r"cannot be written so|differ from the model's|answers of 1 scans"):
            write_program(model, to, tmp_path / name)
        assert not list(tmp_path.glob("*.pt")) + list(tmp_path.glob("*.onnx"))


def test_an_ending_says_the_format_and_must_fit_it(tmp_path, capsys) -> None:
    assert export.main([str(tmp_path), "-o", "model.bin"]) == 2
    assert "all endings: .zip (zip), .onnx (onnx)" in capsys.readouterr().err
    assert export.main([str(tmp_path), "-o", "model.zip", "--format", "onnx"]) == 2
    assert "the name of a file of onnx ends in .onnx" in capsys.readouterr().err
