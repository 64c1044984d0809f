"""Writing a model as a program that needs nothing of this package: ONNX, TorchScript or machine code."""

import shutil
import warnings
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from torch._inductor.exc import InvalidCxxCompiler

from adnext_plugin.deployment.constants import with_masks_drawn
from adnext_plugin.deployment.kinds import ProgramFormat, WeightsKind
from adnext_plugin.deployment.notes import ProgramNotes, card_of, package_version
from adnext_plugin.deployment.parity import TOLERANCE, require_parity
from adnext_plugin.deployment.program import Program
from adnext_plugin.deployment.runner import open_program
from adnext_plugin.errors import ExportError, SettingsError
from adnext_plugin.files import replacing
from adnext_plugin.partial_files import partial_folder
from adnext_plugin.prediction.model import FoldModel, Model

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 2  # of the example: torch.export takes 1 for a number that never changes
OPSET = 20
ANY_DIFFERENCE = float(np.finfo(float).max)  # but no NaN
LEAST_ROUNDED = 1024  # numbers of a tensor; smaller ones weigh nothing
MOST_BYTES = 2**31 - 2**20  # that a file of ONNX can hold

Exported = torch.export.ExportedProgram


def write_program(model: Model, to: ProgramFormat, path: Path, weights: WeightsKind = "float32") -> float:
    """Write a model as a program, and compare its answers with the model's before it is in place.

    Args:
        model: the ensemble.
        to: which format.
        path: of the file.
        weights: int8, of ONNX alone: rounded to whole numbers, for a file a quarter as large.

    Returns:
        The largest difference of a probability.

    Raises:
        ExportError: the network cannot be written, or answers otherwise; how far rounded weights are off is not judged.
        SettingsError: the plan needs Python, or a package is missing.
    """
    model = _in_float32(model)
    program = Program(model)
    with replacing(path) as temporary, partial_folder(path.parent) as folder:
        file = folder / f"program{path.suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing; what matters is compared below
            _WRITE[to](program, model, file, weights)
        largest = require_parity(model, open_program(file, to), TOLERANCE if weights == "float32" else ANY_DIFFERENCE)
        shutil.move(file, temporary)
    return largest


def _in_float32(model: Model) -> Model:
    """The model as a program computes it, whatever precision it was trained in."""
    folds = tuple(replace(fold, precision="float32") for fold in model.description.folds)
    return replace(model, description=replace(model.description, folds=folds))


def notes_of(
    program: Program, model: Model, to: ProgramFormat, *, takes_any_batch: bool, weights: WeightsKind = "float32"
) -> ProgramNotes:
    """The metadata of a program."""
    description = model.description
    return ProgramNotes(
        written_with=package_version(),
        backend=to,
        card=card_of(description),
        model=description,
        columns=program.columns,
        may_be_unknown=description.folds[0].covariate_scale is not None,
        inputs=tuple(program.input_names),
        outputs=tuple(program.output_names),
        takes_any_batch=takes_any_batch,
        weights_sha256={
            fold.name: weights_sha256(one) for fold, one in zip(description.folds, model.folds, strict=True)
        },
        weights=weights,
    )


def weights_sha256(fold: FoldModel) -> str:
    """Digest of a network's tensors: that of its file in a bundle."""
    weights = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in fold.weights.items()}
    return sha256(safetensors.torch.save(weights)).hexdigest()


def exported_program(program: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> tuple[Exported, bool]:
    """The program as a graph of ordinary operators, and whether it takes any number of scans at once.

    Raises:
        ExportError: a network does what no graph can hold.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    try:
        dynamic = tuple({0: batch} for _ in example)
        return torch.export.export(program, example, dynamic_shapes=dynamic, strict=False), True
    except Exception:  # any of dynamo's and sympy's; one scan at a time may still work
        one = tuple(tensor[:1].clone() for tensor in example)
    try:
        return torch.export.export(program, one, strict=False), False
    except Exception as error:
        raise _cannot(error) from error


def example_of(program: Program) -> tuple[torch.Tensor, ...]:
    """Inputs of the right shape."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(BATCH, program.in_channels, *program.input_size_voxels, generator=generator)
    return (image, torch.full((BATCH, len(program.columns)), 50.0)) if program.columns else (image,)


def _write_onnx(program: Program, model: Model, file: Path, weights: WeightsKind) -> None:
    try:
        import onnx  # noqa: F401  torch.onnx looks for both, and says less when they are missing
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"--format onnx needs {error.name}, which is not installed: pip install 'adnext_plugin[onnx]'"
        ) from error
    exported, takes_any_batch = exported_program(program, example_of(program))
    try:
        written = torch.onnx.export(
            exported,
            (),
            input_names=program.input_names,
            output_names=program.output_names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert written is not None  # without a file's name it is returned
        content = written.model_proto
    except Exception as error:  # of operators that ONNX lacks, a dozen classes
        raise _cannot(error) from error
    if weights == "int8":
        _round_weights(content)
    notes = notes_of(program, model, "onnx", takes_any_batch=takes_any_batch, weights=weights)
    for key, text in notes.texts().items():
        content.metadata_props.add(key=key, value=text)
    if content.ByteSize() > MOST_BYTES:
        raise ExportError(
            f"the model takes {content.ByteSize() / 2**30:.1f} GiB, and a file of ONNX holds no more than 2; export "
            "fewer folds, or use --format torchscript"
        )
    file.write_bytes(content.SerializeToString())


def _round_weights(content: "ModelProto") -> None:
    """Store weights of a graph as whole numbers of 8 bits, with a scale for each index of their first axis.

    They are made float32 again where the program runs, so that all else is computed as before.
    """
    import onnx

    graph, nodes = content.graph, []
    for stored in list(graph.initializer):
        values = onnx.numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < LEAST_ROUNDED:
            continue
        scales = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
        scales = np.where(scales > 0, scales, 1).astype(np.float32)
        rounded = np.round(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        parts = {f"{stored.name}_int8": rounded, f"{stored.name}_scale": scales}
        nodes.append(onnx.helper.make_node("DequantizeLinear", list(parts), [stored.name], axis=0))
        graph.initializer.remove(stored)
        graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in parts.items())
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def _write_torchscript(program: Program, model: Model, file: Path, _: WeightsKind) -> None:
    texts = notes_of(program, model, "torchscript", takes_any_batch=True).texts()
    try:
        with torch.inference_mode():
            traced = torch.jit.trace(program, example_of(program), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), str(file), _extra_files=texts)
    except Exception as error:
        raise _cannot(error) from error


def _write_aoti(program: Program, model: Model, file: Path, _: WeightsKind) -> None:
    from torch._inductor import aoti_compile_and_package

    example = example_of(program)
    exported, takes_any_batch = exported_program(program, example)
    exported = with_masks_drawn(exported, lambda module: exported_program(module, example)[0])
    texts = notes_of(program, model, "aoti", takes_any_batch=takes_any_batch).texts()
    # threads are chosen where the program runs, not where it is compiled
    options = {"aot_inductor.metadata": texts, "cpp.dynamic_threads": True}
    try:
        with torch.inference_mode():
            aoti_compile_and_package(exported, package_path=str(file), inductor_configs=options)
    except InvalidCxxCompiler as error:
        raise SettingsError("--format aoti needs a compiler of C++, such as g++, which is not installed") from error
    except Exception as error:  # of the compiler of graphs and of that of C++
        raise _cannot(error) from error


def _cannot(error: Exception) -> ExportError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ExportError(f"the network cannot be written so ({type(error).__name__}: {reason[:300]}); use --format zip")


_WRITE = {"onnx": _write_onnx, "torchscript": _write_torchscript, "aoti": _write_aoti}
