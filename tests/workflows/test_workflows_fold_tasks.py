"""Folds in processes of their own, on this machine, on Dask and as jobs: killed ones go on, errors are one line."""

import itertools
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from adnext_plugin import dask_cluster
from adnext_plugin.cli import train
from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.training.weights import read_checkpoint
from adnext_plugin.workflows import executors
from adnext_plugin.workflows import train as training
from adnext_plugin.workflows.executors import BatchFolds, LocalFolds, executor_of, folds_on_gpus, shares_of_machine
from adnext_plugin.workflows.fold_tasks import FoldTask, run_task
from adnext_plugin.workflows.train import Request

HERE = Path(__file__).parent
FOLDS = (0, 1)


def _task(folder: Path, fold: int = 0, **request) -> FoldTask:
    content = {"folder": str(folder), "fold": fold, **request}
    return FoldTask(name=f"fold {fold}", request=content, variables={"PYTHONPATH": str(HERE)}, module="quick_fold")


def _tries(folder: Path, fold: int) -> int:
    return len((folder / f"{fold}.tries").read_text())


def test_a_killed_task_is_tried_again_and_given_up_after_three_times(tmp_path: Path) -> None:
    run_task(_task(tmp_path, 0, is_killed=2))
    assert (tmp_path / "0.json").is_file() and _tries(tmp_path, 0) == 3
    with pytest.raises(AdnextError, match=r"^fold 1 was killed by SIGKILL 3 times, most likely for want of memory;"):
        run_task(_task(tmp_path, 1, is_killed=3))
    assert not (tmp_path / "1.json").exists() and _tries(tmp_path, 1) == 3
    for number, signal_, how in ((2, signal.SIGTERM, "which another program"), (3, signal.SIGSEGV, "a fault in a")):
        run = LocalFolds([{}]).run if number == 2 else lambda tasks, _: run_task(*tasks)
        with pytest.raises(AdnextError, match=rf"^fold {number} was ended by {signal_.name} 3 times, {how}") as caught:
            run([_task(tmp_path, number, is_killed=3, signal=int(signal_))], lambda *_: None)
        assert "memory" not in str(caught.value)


def test_what_is_to_be_mended_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(AdnextError, match=r"^fold 0: the loss became nan$"):
        run_task(_task(tmp_path, 0, mend="the loss became nan"))
    with pytest.raises(AdnextError, match=r"(?s)^fold 1 ended with exit code 1:.*ValueError: a fault$"):
        run_task(_task(tmp_path, 1, fails=True))
    assert _tries(tmp_path, 0) == _tries(tmp_path, 1) == 1


OF_TORCHRUN = {
    **{f"{kind}{name}": "2" for kind in ("", "LOCAL_", "ROLE_", "GROUP_") for name in ("RANK", "WORLD_SIZE")},
    "TORCHELASTIC_RUN_ID": "run",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_a_fold_of_its_own_process_is_not_of_torchruns_group(tmp_path: Path, monkeypatch) -> None:
    for name, value in OF_TORCHRUN.items():
        monkeypatch.setenv(name, value)
    run_task(_task(tmp_path, 0))
    assert json.loads((tmp_path / "0.json").read_text())["group"] == []


@pytest.mark.parametrize("option", [["--gpus", "0,1"], ["--executor", "local:2"]])
def test_torchrun_and_folds_at_once_are_refused_before_anything_is_touched(monkeypatch, capsys, option) -> None:
    for name, value in OF_TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert train.main(["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", *option]) == 2
    said = "error: --gpus and --executor start a process for each fold themselves; leave torchrun out\n"
    assert capsys.readouterr().err == said


def test_folds_at_once_have_a_place_each_and_all_are_done(tmp_path: Path) -> None:
    done: list[str] = []
    tasks = [_task(tmp_path, fold, seconds=0.3, is_killed=int(fold == 1)) for fold in range(5)]
    LocalFolds([{"PLACE": "a"}, {"PLACE": "b"}]).run(tasks, lambda task, _: done.append(task.name))
    assert sorted(done) == [f"fold {fold}" for fold in range(5)] and _tries(tmp_path, 1) == 2
    found = [json.loads((tmp_path / f"{fold}.json").read_text()) for fold in range(5)]
    for place in ("a", "b"):
        spans = sorted((one["begun"], one["ended"]) for one in found if one["place"] == place)
        assert spans and all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert {one["place"] for one in found} == {"a", "b"}


def test_when_a_fold_fails_those_that_run_are_ended_and_no_other_begins(tmp_path: Path) -> None:
    tasks = [_task(tmp_path, 0, waits=True), _task(tmp_path, 1, mend="lower the rate"), _task(tmp_path, 2)]
    with pytest.raises(AdnextError, match=r"^fold 1: lower the rate$"):
        LocalFolds([{}, {}]).run(tasks, lambda *_: None)
    assert not list(tmp_path.glob("*.json"))


def test_the_fold_of_a_dask_worker_that_was_killed_goes_to_another(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    monkeypatch.setattr(executors, "usable_cpus", lambda: 2)
    done: list[str] = []
    tasks = [_task(tmp_path, fold, kills_caller=int(fold == 0)) for fold in range(3)]
    executor_of("dask", tmp_path).run(tasks, lambda task, _: done.append(task.name))
    assert sorted(done) == ["fold 0", "fold 1", "fold 2"] and _tries(tmp_path, 0) == 2
    with pytest.raises(AdnextError, match=r"^fold 4: lower the rate$"):
        executor_of("dask", tmp_path).run([_task(tmp_path, 4, mend="lower the rate")], lambda *_: None)


def test_a_job_of_a_batch_system_that_was_killed_is_submitted_again(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    monkeypatch.setattr(executors, "POLL_SECONDS", 0.1)
    done: list[str] = []
    batch = BatchFolds("local", {}, tmp_path / "jobs")
    batch.run([_task(tmp_path, 0, kills_caller=1), _task(tmp_path, 1)], lambda task, _: done.append(task.name))
    assert sorted(done) == ["fold 0", "fold 1"] and _tries(tmp_path, 0) == 2
    with pytest.raises(AdnextError, match=r"^fold 2: lower the rate$"):
        batch.run([_task(tmp_path, 2, mend="lower the rate")], lambda *_: None)


SBATCH = """#!/bin/sh
case "$*" in
  *--test-only*) found="$*" ;;
  *) found=$(cat "$1") ;;
esac
case "$found" in
  *nosuch*) echo "sbatch: unrecognized option '--nosuch=1'" >&2; exit 1 ;;
  *banana*) echo "sbatch: error: Invalid --time specification" >&2; exit 1 ;;
  *partition=moon*) echo "sbatch: error: invalid partition specified: moon" >&2
    echo "sbatch: error: Batch job submission failed: Invalid partition name" >&2; exit 1 ;;
esac
echo "Submitted batch job 17"
"""
REFUSALS = {
    "nosuch=1": "unrecognized option '--nosuch=1'",
    "time=banana": "Invalid --time specification",
    "partition=moon": "invalid partition specified: moon; Batch job submission failed: Invalid partition name",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of Slurm that refuse some options."""
    pytest.importorskip("submitit", reason="needs the extra slurm")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n"), ("scancel", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("options", REFUSALS)
def test_what_sbatch_refuses_is_one_line_with_what_it_says(tmp_path: Path, slurm, capfd, options: str) -> None:
    batch = executor_of(f"slurm:{options}", tmp_path / "jobs")
    for refused in (batch.check, lambda: batch.run([_task(tmp_path)], lambda *_: None)):
        with pytest.raises(SettingsError, match="sbatch refuses a job with") as caught:
            refused()
        assert options in str(caught.value) and str(caught.value).endswith(f": {REFUSALS[options]}")
        assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr().err == ""
    executor_of("slurm:partition=gpu", tmp_path / "jobs").check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--executor", "slurm:partition=moon"], "invalid partition specified"),
        (["--executor", "dask://127.0.0.1:9"], "no Dask scheduler answers"),
        (["--executor", ""], "give local:N, slurm, dask"),
        (["--gpus", "7"], "--gpus 7: torch sees"),
    ],
)
def test_what_cannot_train_is_refused_before_a_run_is_looked_at_or_set_aside(
    toy, slurm, monkeypatch, capsys, options: list[str], said: str
) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(training, "refuse_what_leaks", lambda *_, **__: pytest.fail("the audit came first"))
    fold = toy.results / "Dataset301_Toy" / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_final.pth").write_bytes(b"finished")
    assert train.main(["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "--restart", *options]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in fold.iterdir()] == ["checkpoint_final.pth"]


def test_a_fold_that_its_process_refuses_to_begin_anew_is_left_as_it_was(
    trained, tmp_path, monkeypatch, capsys
) -> None:
    fold = trained.run / "fold_0"
    monkeypatch.setattr(training, "_folds", lambda *_: (0,))
    before = {path.relative_to(fold) for path in fold.rglob("*.pth")}
    weights = tmp_path / "of_another_network.pth"
    torch.save({"network_weights": {"other.weight": torch.zeros(3)}}, weights)
    words = ["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "-pretrained_weights", str(weights)]
    assert train.main([*words, "--skip-audit", "no people", "--executor", "local:1", "--restart"]) == 2
    assert "error: fold 0: " in capsys.readouterr().err
    assert {path.relative_to(fold) for path in fold.rglob("*.pth")} == before and before


def _tasks_of(monkeypatch, arguments: list[str], capsys) -> tuple[list[FoldTask], str]:
    """Tasks that a command would have trained, and what it said."""
    tasks: list[FoldTask] = []

    def run(self, given, done) -> None:
        tasks.extend(given)
        for task in given:
            done(task, "cuda, some GPU")

    for kind in (LocalFolds, BatchFolds):
        monkeypatch.setattr(kind, "run", run)
    monkeypatch.setattr(training.evaluate, "evaluate", lambda *_: None)
    assert train.main(["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", *arguments]) == 0
    return tasks, capsys.readouterr().out


def test_the_machine_that_trains_a_job_is_the_one_that_must_have_the_device(toy, slurm, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for asked, passed_on in ((["-device", "cuda"], "cuda"), ([], None)):
        tasks, said = _tasks_of(monkeypatch, [*asked, "--executor", "slurm:gpus=1", "--num-gpus", "2"], capsys)
        assert {task.request["device"] for task in tasks} == {passed_on} and len(tasks) == 4
        assert "4 folds, each as a job of slurm" in said and "fold 3 is finished (cuda, some GPU)" in said
    with pytest.raises(AdnextError, match="fold 0: -device cuda: torch sees no GPU here"):
        run_task(FoldTask.of("fold 0", {**tasks[0].request, "device": "cuda"}), {"CUDA_VISIBLE_DEVICES": ""})


def test_local_folds_are_on_processors_unless_a_gpu_is_asked_for(toy, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for asked, passed_on in (([], "cpu"), (["-device", "cuda"], "cuda")):
        tasks, said = _tasks_of(monkeypatch, [*asked, "--executor", "local:2"], capsys)
        assert {task.request["device"] for task in tasks} == {passed_on}
        assert "4 folds, 2 at a time on this machine; each has its log in its own folder" in said
        assert ("--gpus 0,1 instead of --executor" in said) == (passed_on == "cuda")


def test_executors_and_gpus_that_do_not_exist_are_refused(tmp_path: Path, monkeypatch) -> None:
    for name, said in (
        ("local", "say how many"),
        ("local:0", "say how many"),
        ("moon", "give local:N, slurm, dask"),
        ("slurm:gpu", "write options as KEY=VALUE"),
    ):
        with pytest.raises(SettingsError, match=f"--executor {name}: {said}"):
            executor_of(name, tmp_path)
    for gpus, there_are, said in ((("0", "2"), 2, "torch sees 2"), (("0",), 0, "no GPU here"), (("0", "0"), 2, "sees")):
        with pytest.raises(SettingsError, match=said):
            folds_on_gpus(gpus, there_are)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    places = folds_on_gpus(("1", "0"), 2)._places
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["GPU-abc", "5"]
    monkeypatch.setattr(executors, "usable_cpus", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert shares_of_machine(3)[2] == {"ADNEXT_FOLDS_AT_ONCE": "3", "OMP_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert shares_of_machine(3)[0] == {"ADNEXT_FOLDS_AT_ONCE": "3"}
    shared = {"dataset": "1", "trainer": "T"}
    for wrong in ({"fold": 0, "gpus": ("0",)}, {"fold": "all", "executor": "dask"}):
        with pytest.raises(SettingsError, match="give 'cv' instead of a fold"):
            Request(**shared, **wrong)
    for wrong in ({"num_gpus": 2}, {"executor": "dask"}, {"device": "cpu"}):
        with pytest.raises(SettingsError, match="--gpus trains a fold on each GPU"):
            Request(**shared, fold="cv", gpus=("0", "1"), **wrong)


def _kill_one_that_trains(run: Path, killed: list[int]) -> None:
    """Kill the first process that has set an earlier run aside and begun to train its fold."""
    end = time.monotonic() + 120
    while not killed and time.monotonic() < end:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"adnext_plugin.cli.fold_task" in words:
                request = json.loads(words[words.index(b"adnext_plugin.cli.fold_task") + 1])
                fold = run / f"fold_{request['fold']}"
                has_begun = (fold / "run.json").is_file() and list(fold.glob("earlier_run_*/checkpoint_best.pth"))
                if has_begun and request["dataset"] == "301":
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    killed.append(request["fold"])
                    return
        time.sleep(0.02)


def test_folds_begun_anew_at_once_one_of_them_killed_are_those_of_a_serial_run(
    trained, tmp_path, monkeypatch, capsys
) -> None:
    serial, workspace = trained.run, trained.workspace
    # two folds will do, and what comes after all of them is the same either way
    monkeypatch.setattr(training, "_folds", lambda *_: FOLDS)
    monkeypatch.setattr(training.evaluate, "evaluate", lambda *_: None)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "at_once"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "at_once" / serial.relative_to(workspace.results)
    for fold in FOLDS:
        shutil.copytree(serial / f"fold_{fold}", run / f"fold_{fold}")
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one_that_trains, args=(run, killed))
    killer.start()
    settings = ["epochs=1", "learning_rate=1e-2", "augmentation=none", 'covariates=["age","sex"]']
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", *options]
    assert train.main([*command, "--executor", "local:2", "--restart"]) == 0
    killer.join()
    out = capsys.readouterr().out
    assert len(killed) == 1 and all(f"fold {fold} is finished (cpu)" in out for fold in FOLDS)
    for fold in FOLDS:
        one, other = (read_checkpoint(folder / f"fold_{fold}" / "checkpoint_best.pth") for folder in (run, serial))
        assert all(torch.equal(one["network_weights"][name], value) for name, value in other["network_weights"].items())
        assert len(list(run.glob(f"fold_{fold}/earlier_run_*"))) == 1  # what was killed is not begun a third time
        names = [{path.name for path in folder.glob(f"fold_{fold}/*.[jc]s*")} for folder in (run, serial)]
        assert names[0] == names[1] and "run.json" in names[0]
