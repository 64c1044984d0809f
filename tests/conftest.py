"""A toy cohort whose answer is known: patients have a dark hole in the middle of the brain, controls have none."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adnext_plugin.batch import Batch
from adnext_plugin.cli import export, import_dataset, plan_and_preprocess, train

# small, and with the initialisation that learns within seconds
PRESET = {
    "preprocessing": {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]},
    "network": {"options": {"init": "fan_in"}},
}
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
REAL_DATA = Path(os.environ.get("ADNEXT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass(frozen=True)
class Workspace:
    """Folders of a test: source images with `table.csv`, and nnU-Net's three."""

    source: Path
    raw: Path
    preprocessed: Path
    results: Path

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point nnU-Net's environment variables here."""
        for name, folder in zip(VARIABLES, (self.raw, self.preprocessed, self.results), strict=True):
            monkeypatch.setenv(name, str(folder))
        monkeypatch.delenv("ADNEXT_SETTINGS", raising=False)
        monkeypatch.delenv("nnUNet_extTrainer", raising=False)

    def with_results(self, results: Path) -> "Workspace":
        """The same data, with a folder of results of its own, which is made."""
        results.mkdir(exist_ok=True)
        return replace(self, results=results)


def toy_brain(seed: int, *, has_hole: bool, shape: tuple[int, int, int] = (36, 40, 38)) -> np.ndarray:
    """A noisy ellipsoid in (x, y, z) order, zero outside, with or without a hole in its middle."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0)) / generator.uniform(0.75, 0.95)
    brain = 100 + 20 * grid[1] + generator.normal(0, 8, shape)
    if has_hole:
        brain = np.where(radius < 0.35, 30.0, brain)
    return np.where(radius < 1, brain, 0).astype(np.float32)


def write_scan(path: Path, volume_xyz: np.ndarray, spacing_mm: float = 2.0) -> Path:
    """Write a NIfTI file in RAS orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume_xyz, np.diag([spacing_mm] * 3 + [1.0])), path)
    return path


def empty_workspace(folder: Path) -> Workspace:
    """Folders without data."""
    workspace = Workspace(*(folder / name for name in ("source", "raw", "preprocessed", "results")))
    for path in vars(workspace).values():
        path.mkdir()
    return workspace


def write_cohort(source: Path, subjects: int = 16) -> Path:
    """Write toy scans of half controls, half patients, and their table; the first subject comes twice."""
    lines = ["subject,session,path,diagnosis,age,sex"]
    for index in range(subjects + 1):
        subject, session = (0, "M12") if index == subjects else (index, "M00")
        diagnosis = "AD" if subject % 2 else "CN"
        name = f"sub{subject:02d}_{session}.nii.gz"
        write_scan(source / name, toy_brain(index, has_hole=diagnosis == "AD"))
        lines.append(f"sub{subject:02d},{session},{name},{diagnosis},{60 + subject},{'MF'[subject // 2 % 2]}")
    table = source / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture(scope="session")
def toy_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy cohort imported as Dataset301_Toy and preprocessed to 32³ voxels of 2.5 mm."""
    workspace = empty_workspace(tmp_path_factory.mktemp("toy"))
    table = write_cohort(workspace.source)
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        arguments = ["301", "Toy", "--table", str(table), "--target", "diagnosis", "--with-masks", "-np", "1"]
        assert import_dataset.main([*arguments, "--label-map", "CN=CN", "AD=AD"]) == 0
        preset = workspace.source / "preset.json"
        preset.write_text(json.dumps(PRESET))
        assert plan_and_preprocess.main(["-d", "301", "-np", "1", "--preset", str(preset)]) == 0
    return workspace


@pytest.fixture
def toy(toy_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The toy dataset, in use, with a results folder of its own."""
    workspace = toy_workspace.with_results(tmp_path / "results")
    workspace.use(monkeypatch)
    return workspace


@dataclass(frozen=True)
class Trained:
    """A workspace, and in it a run of all four folds and the bundle exported from it."""

    workspace: Workspace
    run: Path
    bundle: Path

    @classmethod
    def beneath(cls, workspace: Workspace) -> "Trained":
        """Where they are."""
        run = workspace.results / "Dataset301_Toy" / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
        return cls(workspace, run, workspace.results / "toy.zip")


@pytest.fixture(scope="session")
def trained_once(toy_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on the toy dataset of one epoch, with age and sex as covariates."""
    trained = Trained.beneath(toy_workspace.with_results(tmp_path_factory.mktemp("trained")))
    settings = ["epochs=1", "learning_rate=1e-2", "augmentation=none", 'covariates=["age","sex"]']
    options = [word for setting in settings for word in ("--set", setting)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        trained.workspace.use(monkeypatch)
        assert train.main(["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", *options]) == 0
        assert export.main([str(trained.run), "-o", str(trained.bundle), "-device", "cpu"]) == 0
    return trained


@pytest.fixture
def trained(trained_once: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A copy of that run, to be broken, in use."""
    workspace = replace(trained_once.workspace, results=tmp_path / "results")
    not_evaluated = shutil.ignore_patterns("checkpoint_latest.pth", "checkpoint_final.pth")
    shutil.copytree(trained_once.workspace.results, workspace.results, ignore=not_evaluated)
    workspace.use(monkeypatch)
    return Trained.beneath(workspace)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Empty folders, in use."""
    workspace = empty_workspace(tmp_path)
    workspace.use(monkeypatch)
    return workspace


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str | Iterable[Iterable[str]]]], Path]:
    """Write files below a folder: text, or a table as rows of cells (comma or, in a TSV, tab), or "" for an image."""

    def write(files: dict[str, str | Iterable[Iterable[str]]]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, str):
                separator = "\t" if name.endswith(".tsv") else ","
                content = "".join(separator.join(row) + "\n" for row in content)
            path.write_text(content)
        return tmp_path

    return write


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with entry points on the path, as pip would: `install("name", code, {group: {name: object}})`.

    The code becomes a module called as the package; an object is a name in it, `module:object`, or the module itself.
    """

    def write(package: str, code: str, entries: Mapping[str, Mapping[str, str]]) -> None:
        folder = tmp_path / f"site_of_{package}"
        information = folder / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (folder / f"{package}.py").write_text(code)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = []
        for group, objects in entries.items():
            values = [
                (name, value if ":" in value or value == package else f"{package}:{value}")
                for name, value in objects.items()
            ]
            lines += [f"[{group}]", *[f"{name} = {value}" for name, value in values]]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, package, raising=False)
        importlib.invalidate_caches()

    return write


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int], int], int]:
    """Run a command that is interrupted, as by Ctrl-C, while an epoch is trained; epochs are counted over folds."""

    def run(command: Callable[[], int], epoch: int) -> int:
        from adnext_plugin.trainers.lifecycle import RunTrainer

        begun = 0
        start, train_step = RunTrainer.on_train_epoch_start, RunTrainer.train_step

        def step(trainer: RunTrainer, batch: Batch) -> dict:
            done = train_step(trainer, batch)
            if begun > epoch:
                raise KeyboardInterrupt
            return done

        def counted(trainer: RunTrainer) -> None:
            nonlocal begun
            begun += 1
            start(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(RunTrainer, "train_step", step)
            patch.setattr(RunTrainer, "on_train_epoch_start", counted)
            return command()

    return run


class CountedOperations(TorchDispatchMode):
    """Counts what torch is asked to compute, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU refuses, and what a GPU waits for: tensors of two devices in one operation."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        # a number may come from the CPU
        devices = {one.device.type for one in tensors if one.dim() or "copy" in func.overloadpacket.__name__}
        assert len(devices) < 2, f"{func} of {[(one.device.type, tuple(one.shape)) for one in tensors]}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without data may claim to lie on a GPU."""
    monkeypatch.setattr(fake_tensor, "init_gpu_context", lambda *_: None)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def real_data() -> Path:
    """Folder of real scans; the test skips where it is absent."""
    if not (REAL_DATA / "oasis1").is_dir():
        pytest.skip(f"needs the real scans in {REAL_DATA}; set ADNEXT_TEST_DATA")
    return REAL_DATA
