"""Written programs at work. A program of ONNX needs no torch.

A runner takes prepared scans and gives what the program says, by the names of its outputs. `ProgramNetworks` puts it in
the place of a model's networks, so that an `Ensemble` warns, calls and reports as it always does.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import pandas as pd

from adnext_plugin.deployment.kinds import SUFFIXES, ProgramFormat
from adnext_plugin.deployment.notes import (
    COVARIATES,
    DISTANCES,
    IMAGE,
    KEY,
    OUTPUTS,
    PLAIN_KEY,
    ProgramNotes,
)
from adnext_plugin.environment import cpu_threads
from adnext_plugin.errors import BundleError, PathsError, SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.prediction.ensemble import Ensemble, FoldAnswer
from adnext_plugin.training.covariates import known_columns, plain_columns


class Runner(Protocol):
    """A program that has been opened."""

    @property
    def notes(self) -> ProgramNotes: ...
    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...


class OnnxRunner:
    """A program in ONNX, run by ONNX Runtime on the processor.

    Raises:
        BundleError: the file is damaged, or none of ours.
        SettingsError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise SettingsError(
                "a model in ONNX needs onnxruntime, which is not installed: pip install 'adnext_plugin[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads()
        options.log_severity_level = 3
        try:
            # its bytes, so that it cannot ask for further files
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a class of its own for each kind of damage, none of which it exports
            raise _damaged(path, error) from error
        self.notes = ProgramNotes.of_texts(dict(self._session.get_modelmeta().custom_metadata_map), str(path))

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        names = list(self.notes.outputs)
        return dict(zip(names, self._session.run(names, inputs), strict=True))


class TorchRunner:
    """A program in TorchScript.

    Raises:
        BundleError: the file is damaged, or none of ours.
    """

    def __init__(self, path: Path) -> None:
        import torch

        torch.set_num_threads(cpu_threads())
        try:
            texts = dict.fromkeys((KEY, PLAIN_KEY), "")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # that newer formats are preferred
                self._program = torch.jit.load(str(path), map_location="cpu", _extra_files=texts)
        except Exception as error:  # RuntimeError and errors of zip, as the damage has it
            raise _damaged(path, error) from error
        self.notes = ProgramNotes.of_texts({name: _text(text) for name, text in texts.items() if text}, str(path))

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return _run_torch(self._program, self.notes, inputs)


class CompiledRunner:
    """A program of AOTInductor: machine code, which runs when the file is opened.

    Raises:
        BundleError: the file is damaged, none of ours, or for another processor.
    """

    def __init__(self, path: Path) -> None:
        import torch
        from torch._inductor import aoti_load_package

        torch.set_num_threads(cpu_threads())
        try:
            self._program = aoti_load_package(str(path))
            texts = self._program.loader.get_metadata()
        except Exception as error:  # RuntimeError and errors of zip, as the damage has it
            raise _damaged(path, error) from error
        self.notes = ProgramNotes.of_texts(texts, str(path))

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return _run_torch(self._program, self.notes, inputs)


RUNNERS: Mapping[ProgramFormat, Callable[[Path], Runner]] = {
    "onnx": OnnxRunner,
    "torchscript": TorchRunner,
    "aoti": CompiledRunner,
}


class ProgramNetworks:
    """The networks within a program, as an `Ensemble` asks them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._notes = runner.notes

    @property
    def columns(self) -> tuple[str, ...]:
        """What must be known of a person beside the scan."""
        return self._notes.columns

    @property
    def know_features(self) -> bool:
        """Whether the program says how far features are off."""
        return DISTANCES in self._notes.outputs

    @property
    def device(self) -> str:
        """The processor runs them."""
        return "cpu"

    @property
    def shortfall(self) -> str | None:
        """None: what a program computes in was settled when it was written."""
        return None

    def __call__(self, image_czyx: np.ndarray, row: pd.DataFrame) -> list[FoldAnswer]:
        """What each network says of one prepared scan."""
        found = self._runner(program_inputs(self._notes, image_czyx[None], row))
        distances = found[DISTANCES][0].tolist() if self.know_features else [None] * len(self._notes.model.folds)
        outputs_fk = found[OUTPUTS][0].astype(np.float64)
        return [
            FoldAnswer(outputs=outputs, feature_distance=distance)
            for outputs, distance in zip(outputs_fk, distances, strict=True)
        ]


def program_inputs(notes: ProgramNotes, images_bczyx: np.ndarray, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """What a program takes, by name.

    Args:
        notes: of the program.
        images_bczyx: prepared scans.
        rows: one for each, with the columns that the program needs.

    Raises:
        SettingsError: a person's value is missing, and nothing can stand in for it.
    """
    inputs = {IMAGE: images_bczyx.astype(np.float32)}
    if notes.columns and notes.may_be_unknown:
        inputs[COVARIATES] = known_columns(rows, notes.columns)
    elif notes.columns:
        model = notes.model
        inputs[COVARIATES] = plain_columns(rows, notes.columns, model.task, model.plan.network.name or "of the plan")
    return inputs


def open_program(path: Path, expected: str | None = None) -> Runner:
    """Open a program.

    Args:
        path: of a file that `adnext_export` has written.
        expected: onnx, torchscript or aoti; None for what the file's ending says. A file of aoti holds machine code and
            is only opened where it is expected.

    Raises:
        PathsError: there is no such file.
        SettingsError: it is of another format than expected.
        BundleError, FormatError: it is damaged, or none of ours.
    """
    found = format_of(path)
    if found is None or (expected is not None and found != expected):
        wanted = ", ".join(f"{SUFFIXES[name]} for {name}" for name in get_args(ProgramFormat))
        raise SettingsError(
            f"{path} is no program{f' of {expected}' if expected else ''}: its name must end in {wanted}; write one "
            f"with adnext_export --format {expected or 'onnx'}"
        )
    if found == "aoti" and expected is None:
        raise SettingsError(
            f"{path} holds machine code, which runs when it is opened; give --backend aoti if you trust its origin"
        )
    require_file(path, f"write it with adnext_export --format {found}")
    if not os.access(path, os.R_OK):
        raise PathsError(f"{path} cannot be read: permission denied")
    return RUNNERS[found](path)


def format_of(path: Path) -> ProgramFormat | None:
    """The format that the ending of a file's name stands for; None for any other ending."""
    return next((name for name, suffix in SUFFIXES.items() if path.suffix == suffix), None)


def program_ensemble(runner: Runner) -> Ensemble:
    """A program ready to predict."""
    return Ensemble(runner.notes.model, ProgramNetworks(runner))


def _run_torch(program: Callable, notes: ProgramNotes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    with torch.inference_mode():
        found = program(*(torch.from_numpy(inputs[name]) for name in notes.inputs))
    return {name: tensor.numpy() for name, tensor in zip(notes.outputs, found, strict=True)}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _damaged(path: Path, error: Exception) -> BundleError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return BundleError(f"{path} cannot be opened ({reason}); it is damaged or no program, export the model again")
