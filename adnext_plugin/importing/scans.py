"""What every source of data is turned into: scans, each with the row that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image file and what the source says about it; an absent session is ""."""

    image: Path
    subject_id: str
    session_id: str
    row: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join(part for part in (self.subject_id, self.session_id) if part)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The scans of a source, what did not match, and which of its columns hold what (None where none does)."""

    scans: tuple[Scan, ...]
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = ()
    unused_images: tuple[str, ...] = ()
    covariates: Mapping[str, str | None] = field(default_factory=dict)  # age, sex, site -> column
