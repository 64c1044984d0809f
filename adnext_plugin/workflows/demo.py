"""The whole pipeline on a phantom cohort whose truth is known."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adnext_plugin.environment import environment_with, usable_cpus
from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.files import read_object, write_json
from adnext_plugin.settings import require_seed
from adnext_plugin.workflows import evaluate, import_dataset, plan_and_preprocess, train
from adnext_plugin.workflows.common import Tell
from adnext_plugin.workflows.import_source import SourceChoice, TargetChoice

NUMBER, NAME, TRAINER = 999, "Demo", "ADNeXtTrainer_T"
CLASSES = ("control", "patient")
# Small inputs and a rate at which the smallest network learns within minutes
PRESET: dict[str, Any] = {
    "preprocessing": {"spacing_mm": [3.0, 3.0, 3.0], "input_size_voxels": [48, 64, 48], "fit": "resize"},
    "network": {"options": {"init": "fan_in", "drop_path_rate": 0.0}},
    "training": {"learning_rate": 3e-4, "warmup_epochs": 2, "augmentation": "anatomical"},
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A folder for everything; how many people, how ill half of them are, the seed of all, how long to train, where.

    `device` is the CPU unless one is named, as the demo's figures are the CPU's. `fast`: a rehearsal, as in training.
    """

    output: Path = Path("adnext_demo")
    subjects: int = 120
    effect: float = 1.0
    seed: int = 0
    epochs: int = 30
    device: str = "cpu"
    fast: bool = False

    def __post_init__(self) -> None:
        if self.subjects < 16:
            raise SettingsError(f"--subjects must be at least 16 for four folds, got {self.subjects}")
        if not (math.isfinite(self.effect) and self.effect >= 0):
            raise SettingsError(f"--effect must be a number from 0 on, got {self.effect}")
        require_seed("--seed", self.seed)
        if self.epochs < 3:
            raise SettingsError(f"--epochs must be at least 3, got {self.epochs}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was trained and evaluated, and what is really there to be found, in words."""

    training: train.Result
    truth: tuple[str, ...]


def run_demo(request: Request, tell: Tell, show_scores: Callable[[evaluate.Result], None] | None = None) -> Result:
    """Draw the cohort, then import, prepare, train and evaluate it; an interrupted demo goes on where it stopped.

    Args:
        request: the cohort, and where it goes.
        tell: is told what each stage says, after the command that would do the same.
        show_scores: as in `evaluate`.

    Raises:
        PathsError: the folder holds a demo with other settings.
        AdnextError: a stage failed; says which.
    """
    output = request.output.absolute()
    _claim(request, output)

    from adnext_plugin.demo.phantom_cohort import describe_effect, draw_subjects, write_cohort

    subjects = draw_subjects(request.subjects, request.effect, request.seed)
    truths = write_cohort(subjects, output, processes=usable_cpus())
    folders = {name: str(output / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    with environment_with(**folders):
        _import(output, tell)
        _prepare(output, tell)
        training = _train(request, tell, show_scores)
    return Result(training=training, truth=tuple(describe_effect(truths)))


def _claim(request: Request, output: Path) -> None:
    """Remember what the folder is for, so that a demo with other settings cannot be mixed into it."""
    path = output / "demo.json"
    settings = {key: value for key, value in asdict(request).items() if key not in ("output", "device")}
    if path.is_file():
        if {"fast": False, **read_object(path)} != settings:  # earlier versions had no rehearsals
            raise PathsError(f"{output} holds a demo with other settings; give another --output, or delete it")
    else:
        write_json(settings, path)


def _import(output: Path, tell: Tell) -> None:
    bids = output / "bids"
    label_map = tuple(f"{name}={name}" for name in CLASSES)
    options = f"{NUMBER} {NAME} --bids {bids} --target group --label-map {' '.join(label_map)} --overwrite"
    with _stage("import", "import_dataset", options, tell):
        import_dataset.import_dataset(
            import_dataset.Request(
                number=NUMBER,
                name=NAME,
                source=SourceChoice(bids=bids),
                target=TargetChoice(target="group", label_map=label_map),
                overwrite=True,
            ),
            tell,
        )


def _prepare(output: Path, tell: Tell) -> None:
    preset = output / "preset.json"
    write_json(PRESET, preset)
    with _stage("plan_and_preprocess", "plan_and_preprocess", f"-d {NUMBER} --preset {preset}", tell):
        request = plan_and_preprocess.Request(dataset=str(NUMBER), preset=str(preset))
        problems = plan_and_preprocess.plan_and_preprocess(request, tell).problems
        if problems:
            raise AdnextError("\n".join(problems))


def _train(request: Request, tell: Tell, show_scores: Callable[[evaluate.Result], None] | None) -> train.Result:
    options = (
        f"{NUMBER} 3d_fullres cv -tr {TRAINER} -device {request.device} --c --set epochs={request.epochs} "
        f"--seed {request.seed}{' --fast' if request.fast else ''}"
    )
    settings = {"epochs": request.epochs, "seed": request.seed, **({"fast": True} if request.fast else {})}
    with _stage("train", "train", options, tell):
        which = train.Request(
            dataset=NUMBER,
            fold="cv",
            trainer=TRAINER,
            device=request.device,
            resume=True,
            settings=settings,
        )
        return train.train(which, tell, show_scores)


@contextmanager
def _stage(command: str, module: str, options: str, tell: Tell) -> Iterator[None]:
    """Tell of the command that would do the same, and of where the demo stopped if it fails."""
    tell(f"\n$ adnext_{command} {options}")
    try:
        yield
    except AdnextError as error:
        raise AdnextError(f"{error}\nthe demo stopped in adnext_{module}; see the message above") from error
