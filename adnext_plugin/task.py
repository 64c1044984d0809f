"""What a dataset is for: the task in its `dataset.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_object
from adnext_plugin.paths import BLOCK
from adnext_plugin.records import from_json, record


@record
class Task:
    """What is to be learned: the `adnext` block of `dataset.json`.

    A regression has a target but no classes; unlabelled data have neither.
    """

    name: str
    kind: Literal["classification", "regression", "unlabelled"] = "classification"
    target: str | None = None  # the column of subjects.csv that holds the answer
    derived_from: tuple[str, ...] = ()  # columns that give the answer away, of no use as a baseline
    classes: tuple[str, ...] = ()  # class k is output k of the network; the last of two is the "positive" one

    def __post_init__(self) -> None:
        if self.kind == "unlabelled":
            return
        if self.target is None:
            raise SettingsError(f"task {self.name!r} names no target column")
        if self.kind == "regression":
            if self.classes:
                raise SettingsError(f"task {self.name!r} is a regression and cannot have classes")
            return
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise SettingsError(f"a task needs at least two different classes, got {list(self.classes)}")

    @property
    def column(self) -> str:
        """The target's column of subjects.csv.

        Raises:
            SettingsError: the dataset was imported without a target.
        """
        if self.target is None:
            raise SettingsError(f"dataset {self.name} was imported without a target; import it with --target")
        return self.target

    @property
    def num_outputs(self) -> int:
        """Length of the network's output vector; 0 for unlabelled data."""
        return 1 if self.kind == "regression" else len(self.classes)

    @property
    def positive(self) -> str | None:
        """Of two classes the one that is looked for; None where there are not two."""
        return self.classes[1] if len(self.classes) == 2 else None

    @property
    def positive_in_words(self) -> tuple[str, ...]:
        """A remark on which class is called positive, for whoever reads scores; empty where there are not two."""
        if self.positive is None:
            return ()
        others = self.classes[0]
        return (f"{self.positive} is the positive class: sensitivity is of {self.positive}, specificity of {others}",)

    @property
    def in_words(self) -> str:
        """What is to be learned, for messages: "classification of CN, AD", "regression of age", "unlabelled data"."""
        if self.kind == "unlabelled":
            return "unlabelled data"
        return f"{self.kind} of {', '.join(self.classes) or self.target}"


def task_of(dataset_json: Mapping[str, Any], where: str) -> Task:
    """The task in the content of a `dataset.json`.

    Raises:
        SettingsError: it has none, or a damaged one.
    """
    if BLOCK not in dataset_json:
        raise SettingsError(
            f"{where} has no {BLOCK!r} block that says what to classify; import the dataset with adnext_import"
        )
    return from_json(Task, dataset_json[BLOCK], f"{where}, {BLOCK}")


def image_names_in(path: Path) -> tuple[str, ...]:
    """What the images of a case are called in a `dataset.json`, in their order.

    Raises:
        PathsError: there is no such file, or it is damaged.
        SettingsError: it does not say.
    """
    return image_names(read_object(path), str(path))


def image_names(dataset_json: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """What the images of a case are called in the content of a `dataset.json`, in their order.

    Raises:
        SettingsError: it does not say.
    """
    found = dataset_json.get("channel_names")
    stated: dict[str, Any] = found if isinstance(found, dict) else {}
    places = [str(place) for place in range(len(stated))]
    if not places or set(places) != set(stated):
        raise SettingsError(f"{where} does not say what channels scans have (channel_names); restore it")
    return tuple(str(stated[place]) for place in places)
