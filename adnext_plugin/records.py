"""Records that stages hand each other: frozen, keyword-only, checked when made, read from JSON strictly."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from adnext_plugin.errors import SettingsError, nearest_names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RecordType = TypeVar("RecordType")

LONGEST_SHOWN = 200  # characters of a wrong value in a message


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[RecordType]) -> type[RecordType]:
    """Make a class a frozen, type-checked record that refuses unknown fields."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return cast(type[RecordType], pydantic_dataclass(frozen=True, kw_only=True, config=config)(cls))


def from_json(cls: type[RecordType], content: Mapping[str, Any], where: str) -> RecordType:
    """Read a record from a JSON object.

    Args:
        cls: the record's class.
        content: the object as parsed.
        where: file and key, for messages.

    Raises:
        SettingsError: an unknown key (with the nearest known one), a missing one or a value of the wrong type.
    """
    if not isinstance(content, Mapping):
        raise SettingsError(f"{where} must be an object of JSON ({{...}}), got {_short(content)}")
    try:
        return TypeAdapter(cls).validate_python(dict(content))
    except ValidationError as error:
        raise SettingsError(_first_problem(error, cls, where)) from error
    except SettingsError as error:  # of what the record checks itself, which knows no file
        raise SettingsError(f"{where}: {error}") from error


def to_json(instance: Any) -> dict[str, Any]:
    """The record as a JSON object; `from_json` gives it back."""
    return TypeAdapter(type(instance)).dump_python(instance, mode="json")


def with_overrides(settings: RecordType, overrides: Mapping[str, Any], where: str) -> RecordType:
    """A copy of `settings` with some fields replaced by values from JSON, checked like any other.

    Of a field that holds named values, those that are not overridden stay.
    """
    before = asdict(cast("DataclassInstance", settings))
    merged = {
        name: {**before[name], **value} if isinstance(value, dict) and isinstance(before.get(name), dict) else value
        for name, value in overrides.items()
    }
    return from_json(type(settings), {**before, **merged}, where)


def _first_problem(error: ValidationError, cls: type, where: str) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _field_names(cls, problem["loc"][:-1])
        return f"{where}: unknown key {_short(key)}{nearest_names(str(problem['loc'][-1]), known)}"
    if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where}: {key!r} is missing"
    return f"{where}: {key} = {_short(problem['input'])}: {problem['msg']}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _field_names(cls: type, location: tuple) -> list[str]:
    for part in location:
        nested = {field.name: field.type for field in fields(cls)}.get(part)
        if not isinstance(nested, type) or not is_dataclass(nested):
            return []
        cls = nested
    return [field.name for field in fields(cls)]
