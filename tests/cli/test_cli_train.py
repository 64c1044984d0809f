"""What `adnext_train` and its fellows say to impossible requests, and how fast they say what they can do."""

import re
import subprocess
import sys
from importlib import metadata
from importlib.metadata import entry_points

import pytest

from adnext_plugin.cli import adnext, evaluate, train
from adnext_plugin.errors import UnknownNameError
from adnext_plugin.paths import hook_dir
from adnext_plugin.workflows.trainer_lookup import require_names

DATASET = ["301", "3d_fullres"]
TINY = ["-tr", "ADNeXtTrainer_T", "-device", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*DATASET, "7", *TINY], "there is no fold 7; give 0 to 3, 'all' or 'cv'"),
        ([*DATASET, "one", *TINY], "there is no fold one"),
        ([*DATASET, "0", "-tr", "ADNeXtTrainer_X", "-device", "cpu"], "did you mean 'ADNeXtTrainer_"),
        ([*DATASET, "0", "-tr", "adnexttrainer_b", "-device", "cpu"], "did you mean 'ADNeXtTrainer_B'"),
        (["301", "3d_lowres", "0", *TINY], "no configuration '3d_lowres'"),
        ([*DATASET, "0", *TINY, "-p", "Other"], "Other.json does not exist; make it with adnext_plan_and_preprocess"),
        (["555", "3d_fullres", "0", *TINY], "no dataset '555'"),
        ([*DATASET, "0", *TINY, "--set", "epoch=3"], "unknown key 'epoch'; did you mean 'epochs'"),
        ([*DATASET, "0", *TINY, "--set", "epochs=0"], "epochs must be at least 1"),
        ([*DATASET, "0", *TINY, "--set", "epochs"], "write it as KEY=VALUE"),
        ([*DATASET, "0", *TINY, "--set", "augmentation=rotate"], "no augmentation 'rotate'"),
        ([*DATASET, "0", *TINY, "-pretrained_weights", "absent.pth"], "absent.pth does not exist"),
        ([*DATASET, "0", *TINY, "--c", "--val"], "give one of them"),
        ([*DATASET, "0", *TINY, "--seeds", "3"], "'cv' instead of a fold"),
        ([*DATASET, "cv", *TINY, "--gpus", ""], "--gpus '' names no GPU; give their numbers"),
        ([*DATASET, "cv", *TINY, "--gpus", " , "], "names no GPU"),
        ([*DATASET, "cv", *TINY, "--executor", "dask://"], "--executor dask://: give local:N, slurm, dask, or dask://"),
        ([*DATASET, "cv", *TINY, "--executor", "dask:8786"], "--executor dask:8786: give local:N"),
        ([*DATASET, "0", *TINY, "--val"], "has no checkpoint_final.pth"),
        (
            [*DATASET, "0", "-tr", "nnUNetTrainer", "-device", "cpu"],
            "nnUNetTrainer learns segmentations, and Dataset30",
        ),
    ],
)
def test_impossible_trainings_are_one_line_and_train_nothing(toy, capsys, arguments: list[str], message: str) -> None:
    assert train.main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not list(toy.results.rglob("*.pth"))


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_an_unset_variable_is_named(toy, capsys, monkeypatch, variable: str) -> None:
    monkeypatch.delenv(variable)
    assert train.main([*DATASET, "0", *TINY]) == 2
    assert f"the environment variable {variable} is not set" in capsys.readouterr().err


def test_weights_of_another_kind_are_refused_before_training(toy, tmp_path, capsys) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not a checkpoint")
    assert train.main([*DATASET, "0", *TINY, "-pretrained_weights", str(path)]) == 2
    assert "weights.pth is not a checkpoint that can be read safely" in capsys.readouterr().err


def test_misspelt_names_are_answered_before_torch_is_loaded(toy) -> None:
    code = (
        "import sys\nfrom adnext_plugin.cli.train import main\n"
        "for wrong in (['-tr', 'ADNeXtTrainer_X'], ['-tr', 'ADNeXtTrainer_T', '--set', 'epoch=3'], ['-p', 'Other'],\n"
        "              ['-tr', 'ADNeXtTrainer_T', '-pretrained_weights', 'absent.pth']):\n"
        "    assert main(['301', '3d_fullres', '0', '-device', 'cpu', *wrong]) == 2\n"
        "assert not {'torch', 'nnunetv2', 'monai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.startswith("error: ") for line in done.stderr.splitlines()] == [True] * 4


def test_trainers_in_files_are_known_before_they_are_imported(tmp_path, monkeypatch) -> None:
    (tmp_path / "own.py").write_text("class MyTrainer(object):\n    pass\nMyOther = MyTrainer\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    for name in ("MyTrainer", "MyOther", "nnUNetTrainerDA5", "ADNeXtTrainer_T"):
        require_names(name, {"epochs": 3})
    for name in ("MyTrain", "My", "object"):
        with pytest.raises(UnknownNameError, match=f"no trainer '{name}'"):
            require_names(name, {})


def test_evaluating_what_was_not_trained_says_how_to_train_it(toy, capsys) -> None:
    assert evaluate.main(["301", "-tr", "ADNeXtTrainer_S"]) == 2
    assert "train first, or check -tr, -p and -c" in capsys.readouterr().err
    assert evaluate.main(["301"]) == 2
    assert "no fold of Dataset301_Toy has been trained under ADNeXtPlans" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", sorted(entry.name for entry in entry_points(group="console_scripts") if entry.name.startswith("adnext_"))
)
def test_every_command_explains_itself_without_loading_torch(name: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=name)
    code = (
        f"import sys; from {entry.module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'nnunetv2', 'monai', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: {name}" in done.stdout


def test_the_hook_folder_is_printed(capsys) -> None:
    (entry,) = entry_points(group="console_scripts", name="adnext_ext_path")
    assert entry.load()([]) == 0
    assert capsys.readouterr().out.strip() == str(hook_dir())
    assert [path.name for path in hook_dir().glob("*.py")] == ["adnext_nnunet_hook.py"]


def test_all_commands_stand_under_one_name_too(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        adnext.main([])
    said = capsys.readouterr().out
    assert end.value.code == 0
    names = [entry.name for entry in entry_points(group="console_scripts") if entry.name.startswith("adnext_")]
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", said.partition("commands:")[2], re.MULTILINE))
    assert len(names) > 15 and all(listed[name.removeprefix("adnext_")] for name in names)
    assert adnext.main(["ext_path"]) == 0 and capsys.readouterr().out.strip() == str(hook_dir())
    assert adnext.main(["trian"]) == 2 and "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    for version in (lambda: adnext.main(["--version"]), lambda: adnext.main(["train", "--version"])):
        with pytest.raises(SystemExit):
            version()
        assert capsys.readouterr().out.strip() == f"adnext_plugin {metadata.version('adnext_plugin')}"
