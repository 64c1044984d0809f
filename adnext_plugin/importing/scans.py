"""What every source of data is turned into: scans, each with the row that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import Moment

NO_MOMENT = Moment()


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image file and what the source says about it; an absent session is "".

    `further` are other images of the same head, each to be a channel; None for one that there is not. `gap_days` is the
    distance to the clinical visit that the row comes from, None where that is not known. `makeup` is what may not
    differ between repeats of one scan, such as the Description: name to value.
    """

    image: Path
    subject_id: str
    session_id: str
    row: Mapping[str, str]
    moment: Moment = NO_MOMENT
    gap_days: int | None = None
    further: tuple[Path | None, ...] = ()
    makeup: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(part for part in (self.subject_id, self.session_id) if part)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The scans of a source, what did not match, and which of its columns hold what (None where none does).

    `has_repeats` says that several scans of one session are repeats, of which the first serves; otherwise they are a
    mistake. `unused_images` were passed over in favour of others of their session. `asked_for` are columns that the
    user named, whose cells must make sense. `notes` are for the report. `channels` are what the images of a scan are
    called, where the user names them.
    """

    scans: tuple[Scan, ...]
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = ()
    unused_images: tuple[str, ...] = ()
    columns: Mapping[str, str | None] = field(default_factory=dict)  # age, sex, site, ... -> column
    has_repeats: bool = False
    asked_for: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def require_scans(source: Source) -> None:
    """Refuse a source none of whose images has a row.

    Raises:
        TableError: with the first of what did not match, on both sides.
    """
    if not source.scans:
        sides = (("rows without image", source.rows_without_image), ("images without row", source.images_without_row))
        unmatched = "; ".join(f"{len(names)} {what}, the first {names[0]}" for what, names in sides if names)
        raise TableError(f"no image belongs to a row of the tables: {unmatched or 'there is neither'}; check the ids")
