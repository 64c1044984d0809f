"""Names of formats and of what stores weights, for command lines and for what writes; nothing is imported."""

from typing import Literal

ProgramFormat = Literal["onnx", "torchscript", "aoti"]
SUFFIXES: dict[ProgramFormat, str] = {"onnx": ".onnx", "torchscript": ".pt", "aoti": ".pt2"}
WeightsKind = Literal["float32", "int8"]
