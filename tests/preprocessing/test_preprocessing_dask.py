"""Preparing cases on a Dask cluster: what is lost when a worker dies, and what is said when there is no cluster."""

import os
import signal
import socket
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import write_cohort

from adnext_plugin.cli import import_dataset, plan_and_preprocess

DATA = "ADNeXtPlans_3d_fullres"
OPTIONS = ["-d", "7", "-np", "2", "--no-splits", "--input-size", "32", "32", "32", "--spacing", "2.5", "2.5", "2.5"]
SLOWLY = ["--bias-correction", "n4"]  # so that there is a middle to be killed in


def _import(source: Path) -> None:
    table = write_cohort(source, 15)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0


def _hashes(preprocessed: Path) -> dict[str, str]:
    folder = preprocessed / "Dataset007_Toy"
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((folder / DATA).iterdir())}


def test_a_killed_worker_costs_no_case_and_the_files_are_those_of_a_serial_run(fresh, capsys) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    _import(fresh.source)
    folder = fresh.preprocessed / "Dataset007_Toy" / DATA
    finished_at_kill = []

    def kill_one(process: int) -> None:
        while len(list(folder.glob("*.pkl"))) < 3:
            time.sleep(0.005)
        os.kill(process, signal.SIGKILL)
        finished_at_kill.append(len(list(folder.glob("*.pkl"))))

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        killer = threading.Thread(target=kill_one, args=[next(iter(client.run(os.getpid).values()))])
        killer.start()
        address = cluster.scheduler_address.replace("tcp", "dask")
        assert plan_and_preprocess.main([*OPTIONS, *SLOWLY, "--executor", address]) == 0
        killer.join()
    assert finished_at_kill[0] < 16
    # a case whose worker died after it had written its files, but before it could say so, counts as finished
    counts = next(line for line in capsys.readouterr().out.splitlines() if "cases prepared" in line).split()
    assert int(counts[0]) + int(counts[3]) == 16
    found = _hashes(fresh.preprocessed)
    assert len(found) == 2 * 16 and not folder.with_name(f"{DATA}.partial").exists()
    for path in folder.iterdir():
        path.unlink()
    assert plan_and_preprocess.main([*OPTIONS, *SLOWLY, "-np", "1"]) == 0
    assert _hashes(fresh.preprocessed) == found


def test_a_cluster_of_this_machine_is_started_and_a_bad_scan_is_named(fresh, capsys) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    _import(fresh.source)
    image = fresh.raw / "Dataset007_Toy" / "imagesTr" / "sub02_M00_0000.nii.gz"
    image.unlink()
    image.write_bytes(b"no image")
    assert plan_and_preprocess.main([*OPTIONS, "--executor", "dask"]) == 2
    captured = capsys.readouterr()
    assert "15 cases prepared" in captured.out
    errors = [line for line in captured.err.splitlines() if line.startswith("error")]
    assert len(errors) == 2 and "sub02_M00_0000.nii.gz cannot be read" in errors[0]


def _one_error(capsys, executor: str) -> str:
    capsys.readouterr()
    assert plan_and_preprocess.main([*OPTIONS, "--executor", executor]) == 2
    captured = capsys.readouterr().err.strip().splitlines()
    assert len(captured) == 1
    return captured[0]


def test_no_cluster_is_one_line(fresh, capsys, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    monkeypatch.setattr("adnext_plugin.dask_cluster.ANSWER_SECONDS", 1)
    _import(fresh.source)
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert f"no Dask scheduler answers at tcp://127.0.0.1:{port} within 1 s" in _one_error(
            capsys, f"dask://127.0.0.1:{port}"
        )
    assert "no Dask scheduler answers" in _one_error(capsys, f"dask://127.0.0.1:{port}")
    assert "no Dask scheduler answers" in _one_error(capsys, "dask://no port")
    for executor in ("dask://", "dusk", "tcp://127.0.0.1:8786"):
        assert "give processes, dask, or dask://HOST:PORT" in _one_error(capsys, executor)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty:
        address = empty.scheduler_address
        assert f"{address} has no worker" in _one_error(capsys, address.replace("tcp", "dask"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert "pip install 'adnext_plugin[dask]'" in _one_error(capsys, "dask")
