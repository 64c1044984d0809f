"""Steps that are fitted on the training part: what they see, where they are applied, and that a leak is found."""

import dataclasses
import json
import shutil

import blosc2
import numpy as np
import pandas as pd
import pytest
from conftest import Workspace, toy_brain, write_cohort, write_scan

from adnext_plugin.cli import audit, export, import_dataset, plan_and_preprocess, predict, train
from adnext_plugin.cli import install as install_command
from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.plan import PreprocessingSettings, StepChoice
from adnext_plugin.preprocessing.chain import steps_of
from adnext_plugin.preprocessing.fitted import StoredToInput, fit_steps, read_states, with_states, write_states
from adnext_plugin.preprocessing.keys import case_keys
from adnext_plugin.registry import STEPS
from adnext_plugin.run_folder import RunFolder

CODE = '''
import numpy as np

from adnext_plugin.preprocessing.step import FittedStep
from adnext_plugin.records import record


@record
class Strength:
    strength: float = 1.0


class MeanTemplate(FittedStep):
    """Takes away the mean image of the training part."""

    name, version, settings_type = "mean_template", 1, Strength

    def fit(self, training, settings):
        total = sum(image.astype(np.float64) for image in training)
        return {"mean": (total / len(training)).astype(np.float32), "cases": np.array(len(training))}

    def apply(self, image_czyx, settings, state):
        return image_czyx - np.float32(settings.strength) * state["mean"]

    def describe(self, settings):
        return "the mean image of the training part is taken away"


class Scale(FittedStep):
    """Divides by the largest value of the training part."""

    name, version = "scale", 1

    def fit(self, training, settings):
        return {"largest": np.array(max(float(image.max()) for image in training))}

    def apply(self, image_czyx, settings, state):
        return image_czyx / np.float32(state["largest"])

    def describe(self, settings):
        return "intensities are divided by the largest of the training part"
'''
TAKEN_AWAY = 'image_czyx - np.float32(settings.strength) * state["mean"]'
SMALL = PreprocessingSettings(input_size_voxels=(6, 5, 4))
BOTH = dataclasses.replace(SMALL, steps=(StepChoice(name="mean_template"), StepChoice(name="scale")))
IMAGES = [image.astype(np.float16) for image in np.random.default_rng(0).normal(size=(5, 1, 6, 5, 4))]


@pytest.fixture
def templates(install) -> None:
    """A package with two fitted steps."""
    install("templates", CODE, {STEPS: {"mean_template": "MeanTemplate", "scale": "Scale"}})


def test_each_step_is_fitted_on_what_those_before_it_make_of_the_training_part(templates) -> None:
    fitted = fit_steps(BOTH, IMAGES[:3])
    mean = np.mean([image.astype(np.float64) for image in IMAGES[:3]], axis=0).astype(np.float32)
    largest = max(float((image.astype(np.float32) - mean).max()) for image in IMAGES[:3])
    assert set(fitted.arrays) == {"mean_template/mean", "mean_template/cases", "scale/largest"}
    np.testing.assert_array_equal(fitted.arrays["mean_template/mean"], mean)
    assert float(fitted.arrays["scale/largest"]) == largest and int(fitted.arrays["mean_template/cases"]) == 3
    image = IMAGES[4].astype(np.float32)
    np.testing.assert_array_equal(fitted(image), (image - mean) / np.float32(largest))
    np.testing.assert_array_equal(StoredToInput(settings=BOTH, fitted=fitted)(image), fitted(image))


def test_a_plan_without_fitted_steps_has_nothing_to_fit() -> None:
    assert fit_steps(SMALL, IMAGES) is None and with_states(SMALL, {}, "here") is None


def test_what_was_learned_is_written_and_read_to_the_bit(templates, tmp_path) -> None:
    fitted = fit_steps(BOTH, IMAGES)
    write_states(fitted, tmp_path / "steps.safetensors")
    again = with_states(BOTH, read_states(tmp_path / "steps.safetensors"), "here")
    image = IMAGES[0].astype(np.float32)
    np.testing.assert_array_equal(again(image), fitted(image))
    assert {name: array.shape for name, array in again.arrays.items()} == {
        "mean_template/mean": (1, 6, 5, 4),
        "mean_template/cases": (),
        "scale/largest": (),
    }
    (tmp_path / "steps.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(WeightsError, match="is damaged"):
        read_states(tmp_path / "steps.safetensors")
    with pytest.raises(WeightsError, match="does not say what step 'scale' has learned"):
        with_states(BOTH, {"mean_template/mean": np.zeros(1)}, "here")
    with pytest.raises(WeightsError, match="is of step 'other', which the plan does not have"):
        with_states(BOTH, {**fitted.arrays, "other/x": np.zeros(1)}, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('return image_czyx - np.float32(settings.strength) * state["mean"]', "return image_czyx[:, 1:]"),
            "made an image",
        ),
        (
            ('image_czyx - np.float32(settings.strength) * state["mean"]', "image_czyx * np.nan"),
            "not finite everywhere",
        ),
        (('return {"mean"', 'return 1 or {"mean"'), "fit must return arrays by name"),
    ],
)
def test_a_fitted_step_that_does_not_as_it_should_is_named(install, change, message: str) -> None:
    install("templates", CODE.replace(*change), {STEPS: {"mean_template": "MeanTemplate"}})
    settings = dataclasses.replace(SMALL, steps=(StepChoice(name="mean_template"),))
    with pytest.raises(SettingsError, match=message) as caught:
        fit_steps(settings, IMAGES)(IMAGES[0].astype(np.float32))
    assert "'mean_template'" in str(caught.value) and "\n" not in str(caught.value)


def test_a_fitted_step_stands_at_the_end_and_makes_no_case_anew(templates, tmp_path) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz", toy_brain(1, has_hole=False))
    assert case_keys(scan, None, BOTH) == case_keys(scan, None, SMALL)
    assert steps_of(BOTH)[-1].step.name == "fit"
    early = dataclasses.replace(SMALL, steps=(StepChoice(name="scale", after="crop"),))
    with pytest.raises(SettingsError, match="fitted on prepared images, so that it stands after 'fit', not 'crop'"):
        steps_of(early)


# ---------------------------------------------------------------------- through the commands

STEP = {"name": "mean_template", "settings": {"strength": 0.5}}
RUN = ["7", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]


@pytest.fixture
def run(fresh: Workspace, templates) -> RunFolder:
    """One fold trained for one epoch to tell age, with the mean of its training part taken away."""
    table = write_cohort(fresh.source, 12)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--regress", "age", "-np", "1"]) == 0
    preset = fresh.source / "preset.json"
    preset.write_text(
        json.dumps(
            {
                "preprocessing": {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5], "steps": [STEP]},
                "network": {"options": {"init": "fan_in"}},
            }
        )
    )
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", "--preset", str(preset)]) == 0
    assert train.main([*RUN, "--set", "epochs=1", "--set", "learning_rate=1e-2", "--set", "augmentation=none"]) == 0
    return RunFolder.of("Dataset007_Toy", "ADNeXtTrainer_T", "ADNeXtPlans", "3d_fullres")


def test_training_prediction_and_audit_know_what_a_step_has_learned(run, fresh, tmp_path, capsys) -> None:
    folder = fresh.preprocessed / "Dataset007_Toy"
    plans = json.loads((folder / "ADNeXtPlans.json").read_text())
    planned = plans["configurations"]["3d_fullres"]["adnext"]["preprocessing"]["steps"]
    assert planned == [{**STEP, "after": "fit", "version": 1}]

    def stored(cases: list[str]) -> np.ndarray:
        return np.stack([blosc2.open(str(folder / "ADNeXtPlans_3d_fullres" / f"{case}.b2nd"))[:] for case in cases])

    parts = json.loads((folder / "splits_final.json").read_text())[0]
    file = run.fold(0).fitted_steps_file
    arrays = read_states(file)
    np.testing.assert_allclose(
        arrays["mean_template/mean"], stored(parts["train"]).astype(np.float64).mean(axis=0), atol=1e-6
    )
    assert int(arrays["mean_template/cases"]) == len(parts["train"])

    # prediction of the scans, from their files, gives what the fold's own held-out predictions are
    told = pd.read_csv(run.fold(0).predictions_file)
    told = told[told["part"] == "val"].set_index("case_id")["prediction"]
    scans = fresh.raw / "Dataset007_Toy"
    bundle = tmp_path / "toy.zip"
    assert export.main([str(run.path), "-o", str(bundle), "-device", "cpu"]) == 0
    assert install_command.main([str(bundle), "--name", "toy"]) == 0
    for name, model in (("from_run", str(run.path)), ("from_bundle", "toy")):
        out = tmp_path / name
        assert predict.main(["-i", str(scans), "-o", str(out), "-m", model, "-device", "cpu", "-np", "1"]) == 0
        found = pd.read_csv(out / "predictions.csv").set_index("case_id")["prediction"]
        np.testing.assert_allclose(found.loc[told.index], told, rtol=1e-5)
    # without the step the same network answers otherwise: it is really applied
    aside = {**arrays, "mean_template/mean": np.zeros_like(arrays["mean_template/mean"])}
    settings = PreprocessingSettings(steps=(StepChoice(name="mean_template"),))
    kept = tmp_path / "kept"
    shutil.copy(file, kept)
    write_states(with_states(settings, aside, "here"), file)
    out = tmp_path / "without"
    assert predict.main(["-i", str(scans), "-o", str(out), "-m", str(run.path), "-device", "cpu", "-np", "1"]) == 0
    found = pd.read_csv(out / "predictions.csv").set_index("case_id")["prediction"]
    assert np.abs(found.loc[told.index] - told).max() > 1e-4
    shutil.copy(kept, file)

    # the audit fits again, and names a state that was fitted on held-out people as well
    arguments = ["7", "-tr", "ADNeXtTrainer_T"]
    assert audit.main(arguments) == 0
    assert "statistics from outside the training part: none" in capsys.readouterr().out
    everybody = stored([*parts["train"], *parts["val"]]).astype(np.float64).mean(axis=0).astype(np.float32)
    write_states(with_states(settings, {**arrays, "mean_template/mean": everybody}, "here"), file)
    assert audit.main(arguments) == 1
    assert "fold_0: mean of step mean_template is not what the training part gives" in capsys.readouterr().out
    file.unlink()
    assert audit.main(arguments) == 1
    assert "mean of step mean_template is missing in the run" in capsys.readouterr().out


def test_a_run_that_goes_on_keeps_what_was_learned_and_a_new_one_learns_anew(run, fresh) -> None:
    file = run.fold(0).fitted_steps_file
    first = read_states(file)
    before = pd.read_csv(run.fold(0).predictions_file)
    planted = {**first, "mean_template/mean": first["mean_template/mean"] * 0}
    preprocessing = PreprocessingSettings(steps=(StepChoice(name="mean_template"),))
    write_states(with_states(preprocessing, planted, "here"), file)
    assert train.main([*RUN, "--val"]) == 0
    assert not np.allclose(pd.read_csv(run.fold(0).predictions_file)["prediction"], before["prediction"], rtol=1e-4)
    np.testing.assert_array_equal(read_states(file)["mean_template/mean"], 0)
    settings = ["--set", "epochs=1", "--set", "learning_rate=1e-2", "--set", "augmentation=none"]
    assert train.main([*RUN, *settings, "--restart"]) == 0
    np.testing.assert_array_equal(read_states(file)["mean_template/mean"], first["mean_template/mean"])
    pd.testing.assert_frame_equal(pd.read_csv(run.fold(0).predictions_file), before)
    (aside,) = run.fold(0).path.glob("earlier_run_*")
    assert (aside / file.name).is_file()
