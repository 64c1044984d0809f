"""Choices that plans, commands and Python functions spell alike; for all to import, since it takes no time."""

from typing import Literal

# of a plan: how scans are prepared
FitWay = Literal["resize", "pad_crop"]
Interpolation = Literal["linear", "cubic"]
BrainMethod = Literal["deepbet", "hdbet", "mask_files"]
BrainExtractionChoice = Literal["none", BrainMethod]
BiasCorrectionChoice = Literal["none", "n4"]
AlignmentKind = Literal["rigid", "affine", "quick", "nonlinear"]
AlignmentChoice = Literal["none", AlignmentKind]

# of an import: what is taken of a source, and how it is read
SessionChoice = Literal["all", "baseline", "closest"]
MissingChannel = Literal["refuse", "leave-out", "zero"]
CapsPipeline = Literal["t1-linear", "t1-volume"]
DateOrder = Literal["day-first", "month-first"]
