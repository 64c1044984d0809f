"""A training command that was interrupted goes on when it is given again, and does nothing where nothing is left."""

import hashlib
import json
from pathlib import Path

from adnext_plugin.cli import train
from adnext_plugin.environment import environment_with
from adnext_plugin.run_folder import FoldFolder, RunFolder
from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_T
from adnext_plugin.training.weights import read_checkpoint
from adnext_plugin.workflows.continuing import AskedRun

SETTINGS = ["--set", "epochs=2", "--set", "batch_size=8", "--set", "augmentation=none"]
CV = ["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", *SETTINGS]


def _weights(fold: FoldFolder) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(read_checkpoint(fold.checkpoint_final)["network_weights"].items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _changed(run: RunFolder, before: dict[Path, int]) -> set[str]:
    return {path.parent.name for path, time in _times(run).items() if before.get(path) != time}


def _times(run: RunFolder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.path.glob("fold_*/*.pth")}


def test_an_interrupted_cross_validation_goes_on_and_finished_folds_are_left_alone(toy, interrupted, capsys) -> None:
    run = RunFolder.of("Dataset301_Toy", "ADNeXtTrainer_T", "ADNeXtPlans", "3d_fullres")
    # in the second epoch of fold 1, and once more in the first of fold 2
    assert interrupted(lambda: train.main(CV), 3) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted; run the same command again to continue"
    before = _times(run)
    assert {path.name for path in before} == {"checkpoint_best.pth", "checkpoint_final.pth", "checkpoint_latest.pth"}
    assert interrupted(lambda: train.main(CV), 1) == 130
    assert _changed(run, before) == {"fold_1"}
    assert train.main(CV) == 0
    output = capsys.readouterr().out
    assert "fold 1 goes on after 1 of 2 epochs" in output and "fold 2 goes on" not in output
    assert output.count("fold 0 is finished already; --restart trains it again") == 2
    assert run.evaluation.metrics_file.is_file() and not list(run.path.glob("fold_*/earlier_run_*"))

    before = _times(run)
    assert train.main(CV) == 0 and not _changed(run, before)
    one = [*CV[:2], "1", *CV[3:]]
    assert train.main(one) == 0 and not _changed(run, before)
    assert "fold 1 is finished already" in capsys.readouterr().out

    # other settings, or --restart, begin anew and keep what is there
    expected = _weights(run.fold(1))
    assert train.main([*one, "--seed", "7"]) == 0
    assert "fold 1: the run there had seed=42 (now 7). It is set aside, and" in capsys.readouterr().out
    (aside,) = run.fold(1).path.glob("earlier_run_*")
    assert _weights(FoldFolder(aside)) == expected != _weights(run.fold(1))
    assert json.loads((aside / "run.json").read_text())["settings"]["seed"] == 42
    # the fold that was interrupted is what it would have been without
    assert interrupted(lambda: train.main([*one, "--restart"]), 9) == 0
    assert _weights(run.fold(1)) == expected and len(list(run.fold(1).path.glob("earlier_run_*"))) == 2
    assert interrupted(lambda: train.main([*one, "--restart"]), 0) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("the same command again without --restart to continue")


def test_a_plan_with_another_network_makes_another_run(trained, monkeypatch) -> None:
    fold = RunFolder(trained.run).fold(0)
    plans = trained.workspace.preprocessed / "Dataset301_Toy" / "ADNeXtPlans.json"
    settings = ["epochs", "learning_rate", "augmentation", "covariates"]
    given = json.loads(fold.run_file.read_text())["settings"]
    given = {name: given[name] for name in settings}

    def standing(file: Path, **changed):
        with environment_with(ADNEXT_SETTINGS=json.dumps({**given, **changed})):
            return AskedRun.of(ADNeXtTrainer_T, file, "3d_fullres").standing(fold)

    # the copy has no final checkpoint, so that there is something left to do
    assert standing(plans).state == "unfinished"
    fold.checkpoint_best.rename(fold.checkpoint_final)
    assert standing(plans).state == "finished"
    assert standing(plans, epochs=2).line == (
        "fold 0: the run there had epochs=1 (now 2). It is set aside, and the fold begins anew"
    )
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"]["adnext"]["network"]["options"]["stem"] = "convolutional"
    other = plans.parent.parent.parent / "results_of_plan" / "Other.json"
    other.parent.mkdir(exist_ok=True)
    (other.parent / "dataset.json").write_bytes((plans.parent / "dataset.json").read_bytes())
    other.write_text(json.dumps(content))
    found = standing(other)
    assert found.state == "another"
    assert found.line is not None and "had network.stem=None (now 'convolutional'). It" in found.line
    fold.summary_file.unlink()
    assert standing(plans).state == "unfinished"
    fold.checkpoint_final.unlink()
    assert standing(plans).state == "new"
