"""What a written program says of itself: the model that it is, what goes in, what comes out. No torch in here."""

import json
from importlib.metadata import version
from typing import Any

from adnext_plugin.deployment.kinds import ProgramFormat, WeightsKind
from adnext_plugin.errors import SettingsError
from adnext_plugin.formats import Format
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.records import from_json, record, to_json

KEY = "adnext"  # of the JSON object among a file's metadata
PLAIN_KEY = "adnext_plain"  # of the same as lines `name<TAB>value`, for programs without a reader of JSON

PROGRAM = Format(
    name="adnext_program",
    version=1,
    known_by="adnext_program",
    words="a program of adnext_export",
    remedy="write one with adnext_export --format onnx, torchscript or aoti",
)

IMAGE, COVARIATES = "image_bczyx", "covariates_bn"
ANSWER, SPREAD, OUTPUTS, CALLED, DISTANCES = "answer_bk", "spread_bk", "outputs_bfk", "called_b", "distances_bf"


@record
class ProgramNotes:
    """The metadata of a program.

    `columns`: what must be known of a person, as it is in `subjects.csv`; with `may_be_unknown`, NaN stands for what is
    not known. `weights_sha256`: by fold, of its tensors as a bundle of the same model holds them. `takes_any_batch`:
    else one scan at a time. `weights`: int8 where they were rounded to whole numbers.
    """

    written_with: str
    backend: ProgramFormat
    card: str
    model: ModelDescription
    columns: tuple[str, ...]
    may_be_unknown: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    takes_any_batch: bool
    weights_sha256: dict[str, str]
    weights: WeightsKind = "float32"

    def texts(self) -> dict[str, str]:
        """The metadata as a file keeps them."""
        plain = "".join(f"{name}\t{value}\n" for name, value in _plain(self).items())
        return {KEY: json.dumps(PROGRAM.stamped(to_json(self)), sort_keys=True), PLAIN_KEY: plain}

    @classmethod
    def of_texts(cls, texts: dict[str, str], where: str) -> "ProgramNotes":
        """What `texts` gave.

        Raises:
            FormatError: the file was not written by `adnext_export`, or by a later version.
            SettingsError: a value is missing or wrong.
        """
        try:
            content: Any = json.loads(texts.get(KEY, "{}"))
        except ValueError as error:
            raise SettingsError(f"{where}: its metadata are not JSON; export the model again") from error
        return from_json(cls, PROGRAM.content_of(content, where), where)


def package_version() -> str:
    """Of this package."""
    return version("adnext_plugin")


def card_of(model: ModelDescription) -> str:
    """What a user of the model must know, as text."""
    from adnext_plugin.preprocessing.chain import preparation_in_words

    return "\n".join(
        [
            model.in_words,
            f"Input: {_images(model)}; every scan: {'; '.join(preparation_in_words(model.plan))}",
            "Output: "
            + (f"probability of {', '.join(model.task.classes)}" if model.task.classes else model.task.column),
            "Intended use: research; it is not a medical device, and no decision about a person may rest on it.",
            "Out of scope: scans prepared otherwise, other sequences, those trained on, and people unlike them.",
            *model.stamps,
        ]
    )


def _images(model: ModelDescription) -> str:
    return "one brain scan" if model.images is None else f"{', '.join(model.images)} of one brain, on one grid"


def _plain(notes: ProgramNotes) -> dict[str, str]:
    model, settings = notes.model, notes.model.plan.preprocessing
    python_only = [
        *(["several images of a person"] if model.images is not None else []),
        *(["bias_correction"] if settings.bias_correction != "none" else []),
        *(["alignment"] if settings.alignment != "none" else []),
        *(step.name for step in settings.steps),
        *(["nnU-Net's preprocessing"] if model.plan.prepared_by == "nnunet" else []),
    ]
    values: dict[str, object] = {
        "format_version": PROGRAM.version,
        "written_with": notes.written_with,
        "backend": notes.backend,
        "kind": model.task.kind,
        "target": model.task.column,
        "classes": model.task.classes,
        "folds": tuple(fold.name for fold in model.folds),
        "columns": notes.columns,
        "may_be_unknown": int(notes.may_be_unknown),
        "inputs": notes.inputs,
        "outputs": notes.outputs,
        "takes_any_batch": int(notes.takes_any_batch),
        "spacing_zyx_mm": settings.spacing_mm,
        "input_size_zyx": settings.input_size_voxels,
        "fit": settings.fit,
        "interpolation": settings.interpolation,
        "clip_percentiles": settings.clip_percentiles or (),
        "python_only": python_only,
        "stamps": model.stamps,
    }
    return {name: _cell(value) for name, value in values.items()}


def _cell(value: object) -> str:
    """A list is its items with tabs between; no item holds a tab or a line break."""
    items = (
        [repr(item) if isinstance(item, float) else str(item) for item in value]
        if isinstance(value, (tuple, list))
        else [str(value)]
    )
    return "\t".join(" ".join(item.split()) for item in items)
