"""What a container or a batch job may use is what its control groups and Slurm say, not what the machine has."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest

from adnext_plugin.cpu_memory import available_memory_bytes, memory_bytes
from adnext_plugin.data import loading_processes, store
from adnext_plugin.environment import let_threads_sleep, usable_cpus
from adnext_plugin.job_limits import MemoryLimit, memory_limit, processor_limit
from adnext_plugin.parallel import processes_that_fit
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.fold_data import open_data

GIB = 1 << 30
NO_LIMIT = "9223372036854771712\n"


@pytest.fixture(autouse=True)
def no_batch_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def tree(root: Path, groups: str, **files: str | int) -> Path:
    """A machine of 64 GiB, 60 free, with groups and files; `__` in their names is a folder, `_DOT_` a dot."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    (root / "proc" / "meminfo").write_text(f"MemTotal: {64 << 20} kB\nMemAvailable:   {60 << 20} kB\n")
    for name, content in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_the_tightest_group_above_a_process_of_version_2_holds(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/user.slice/job_7/task\n",
        user_DOT_slice__memory_DOT_max=32 * GIB,
        user_DOT_slice__memory_DOT_current=31 * GIB,
        user_DOT_slice__memory_DOT_stat=f"anon 5\nactive_file 9\ninactive_file {30 * GIB}",
        user_DOT_slice__cpu_DOT_max="max 100000",
        user_DOT_slice__job_7__memory_DOT_max=8 * GIB,
        user_DOT_slice__job_7__memory_DOT_current=2 * GIB,
        user_DOT_slice__job_7__memory_DOT_stat=f"inactive_file {GIB}",
        user_DOT_slice__job_7__cpu_DOT_max="250000 100000",
        user_DOT_slice__job_7__task__memory_DOT_max="max",
        user_DOT_slice__job_7__task__memory_DOT_current=2 * GIB,
    )
    assert memory_limit(root) == MemoryLimit(limit_bytes=8 * GIB, available_bytes=7 * GIB)
    assert available_memory_bytes(root) == 7 * GIB
    assert processor_limit(root) == 2
    assert usable_cpus(root) == min(2, usable_cpus(tmp_path / "nothing"))


def test_memory_above_which_a_group_is_slowed_down_is_not_counted_on(tmp_path: Path) -> None:
    root = tree(
        tmp_path, "0::/job\n", job__memory_DOT_max=8 * GIB, job__memory_DOT_high=6 * GIB, job__memory_DOT_current=GIB
    )
    assert memory_limit(root) == MemoryLimit(limit_bytes=6 * GIB, available_bytes=5 * GIB)


def test_groups_of_version_1_are_found_for_each_controller(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "9:name=systemd:/\n4:memory:/slurm/uid_5/job_7\n3:cpuset:/slurm\n2:cpu,cpuacct:/slurm/uid_5/job_7\n0::/\n",
        memory__memory_DOT_limit_in_bytes=NO_LIMIT,
        memory__slurm__memory_DOT_limit_in_bytes=NO_LIMIT,
        memory__slurm__uid_5__job_7__memory_DOT_limit_in_bytes=16 * GIB,
        memory__slurm__uid_5__job_7__memory_DOT_usage_in_bytes=10 * GIB,
        memory__slurm__uid_5__job_7__memory_DOT_stat=f"cache 7\ntotal_inactive_file {4 * GIB}",
        cpu_comma_cpuacct__x="",
    )
    mounts = root / "sys" / "fs" / "cgroup"
    (mounts / "cpu_comma_cpuacct").rename(mounts / "cpu,cpuacct")
    for name, quota in (("", "-1"), ("slurm", "150000"), ("slurm/uid_5", "-1")):
        (mounts / "cpu,cpuacct" / name).mkdir(parents=True, exist_ok=True)
        (mounts / "cpu,cpuacct" / name / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (mounts / "cpu,cpuacct" / name / "cpu.cfs_period_us").write_text("100000\n")
    assert memory_limit(root) == MemoryLimit(limit_bytes=16 * GIB, available_bytes=10 * GIB)
    assert processor_limit(root) == 1
    assert usable_cpus(root) == 1


@pytest.mark.parametrize("name", ["/docker/0123", "/../../kubepods/pod7", "/"])
def test_inside_a_container_the_root_of_what_is_mounted_holds(tmp_path: Path, name: str) -> None:
    first = tree(
        tmp_path / "1",
        f"4:memory:{name}\n5:cpu:{name}\n",
        memory__memory_DOT_limit_in_bytes=4 * GIB,
        memory__memory_DOT_usage_in_bytes=GIB,
        cpu__cpu_DOT_cfs_quota_us=300000,
        cpu__cpu_DOT_cfs_period_us=100000,
    )
    second = tree(
        tmp_path / "2",
        f"0::{name}\n",
        memory_DOT_max=4 * GIB,
        memory_DOT_current=GIB,
        cpu_DOT_max="300000 100000",
    )
    for root in (first, second):
        assert memory_limit(root) == MemoryLimit(limit_bytes=4 * GIB, available_bytes=3 * GIB)
        assert processor_limit(root) == 3


def test_without_limits_the_machine_is_what_there_is(tmp_path: Path) -> None:
    free = tree(tmp_path, "0::/\n4:memory:/\n", memory_DOT_max="max", memory__memory_DOT_limit_in_bytes=NO_LIMIT)
    assert memory_limit(free) is None and processor_limit(free) is None
    assert available_memory_bytes(free) == 60 * GIB
    nowhere = tmp_path / "no such system"
    assert memory_limit(nowhere) is None and processor_limit(nowhere) is None
    assert available_memory_bytes(nowhere) is None
    assert memory_bytes(nowhere) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_group_that_is_full_has_nothing_left(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/job\n", job__memory_DOT_max=GIB, job__memory_DOT_current=GIB + 4096)
    assert available_memory_bytes(root) == 0


def test_slurm_grants_memory_and_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "0::/\n")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert memory_bytes(root) == available_memory_bytes(root) == 2 * GIB
    assert usable_cpus(root) == 1
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "512")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert memory_bytes(root) == 3 * GIB // 2
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "0")  # all there is
    assert available_memory_bytes(root) == 60 * GIB


def test_a_job_prepares_as_many_scans_at_once_as_its_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert processes_that_fit(8, 400 << 20) == 2
    assert processes_that_fit(8, 4 * GIB) == 1


def test_volumes_are_kept_in_memory_where_half_of_the_job_s_holds_them_for_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    for case in ("a", "b"):
        blosc2.asarray(np.zeros((1, 32, 64, 64), np.float16), urlpath=str(tmp_path / f"{case}.b2nd"))
    size = (32, 64, 64)  # 256 KiB
    assert store.CaseStore(tmp_path, ["a", "b"], size, is_own=False).keep_in_memory()
    assert not store.CaseStore(tmp_path, ["a", "b"], size, is_own=False).keep_in_memory(processes=2)
    assert not store.CaseStore(tmp_path, ["a", "b", "a"], size, is_own=False).keep_in_memory()


def test_loaders_are_as_many_as_the_job_has_processors_for_each_training_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for processors, processes, count in ((64, 1, 8), (6, 1, 6), (6, 2, 3), (2, 4, 1)):
        monkeypatch.setattr(loading_processes, "usable_cpus", lambda processors=processors: processors)
        found = loading_processes.loading_processes(lambda: 1, on_gpu=True, processes=processes)
        assert (found.count, found.line) == (count, None)
    assert loading_processes.loading_processes(lambda: 1, on_gpu=False).count == 0


def test_folds_at_once_share_memory_as_processes_of_one_training_do(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(store.CaseStore, "keep_in_memory", lambda _, processes: asked.append(processes))
    data = open_data(toy.preprocessed / "Dataset301_Toy", "ADNeXtPlans", "3d_fullres")
    for told, count in (("3", 3), ("", 1), ("0", 1)):
        monkeypatch.setenv("ADNEXT_FOLDS_AT_ONCE", told)
        data.loader(data.parts["train"], TrainerSettings(), processes=2)
        assert asked.pop() == 2 * count


def test_loaders_are_no_more_than_shared_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_processes, "usable_cpus", lambda: 8)
    batch = 4 * 4 * 128**3  # 4 scans of 128³ in float32, 32 MiB
    found = {}
    for free_mib in (64, 128, 192, 575, 576):  # 64: a container of Docker's, if nobody asked for more
        usage = SimpleNamespace(free=free_mib << 20)
        monkeypatch.setattr(loading_processes.shutil, "disk_usage", lambda _, usage=usage: usage)
        found[free_mib] = loading_processes.loading_processes(lambda: batch, on_gpu=True)
    assert {free: one.count for free, one in found.items()} == {64: 0, 128: 1, 192: 2, 575: 7, 576: 8}
    line = "/dev/shm has 128 MiB left, room for 1 of 8 processes that load data; all of them need 576 MiB"
    assert found[128].line == f"{line} (in a container: --shm-size or --ipc=host)" and found[576].line is None
    # what the user asks for by name does not fit, either
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    assert loading_processes.loading_processes(lambda: batch, on_gpu=True, processes=2).count == 3
    assert loading_processes.loading_processes(lambda: batch, on_gpu=True, processes=4).count == 1


def test_threads_sleep_while_they_wait_unless_the_user_or_a_loaded_torch_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    assert not let_threads_sleep() and "OMP_WAIT_POLICY" not in os.environ  # torch is loaded here
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert not let_threads_sleep() and "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert let_threads_sleep() and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not let_threads_sleep()  # it is set


def test_a_command_has_its_threads_sleep_before_it_loads_torch() -> None:
    program = """
import os, sys
from adnext_plugin.cli import train
assert "torch" not in sys.modules
train.main(["1", "3d_fullres", "0", "-tr", "A", "--continue", "--restart"])
print(os.environ["OMP_WAIT_POLICY"])
"""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "PASSIVE\n" and "--restart begins anew" in done.stderr
