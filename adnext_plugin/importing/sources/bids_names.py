"""Names of BIDS files: `sub-01_ses-M06_run-2_T1w.nii.gz` as entities and a suffix.

pybids (with its SQL index, 20 packages) and bids2table (which brings Arrow) are not used: reading names is all that is
needed of them here, and neither joins the tables.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.importing.image_files import natural_order

# what two images of a session may differ in and still be the same thing twice
NO_DIFFERENCE = ("sub", "ses", "run")
# the parts of a complex image that are no picture of a head by themselves
NO_PICTURE = ("phase", "real", "imag")
# "none" stands for a name without the entity
SAFE_CHOICES = {"part": ("none", "mag"), "ce": ("none",)}
GROUP = "group-"
WHAT_IS_SAFE = {"part": "magnitude images", "ce": "images without contrast agent"}


@dataclass(frozen=True, kw_only=True)
class BidsName:
    """A file's name taken apart."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def of(cls, path: Path) -> "BidsName":
        """Take a name apart; parts without a hyphen, as in other software's names, are passed over."""
        *parts, suffix = path.name.split(".", 1)[0].split("_")
        pairs = [part.split("-", 1) for part in parts if "-" in part]
        # Clinica says in the folder alone which group's template a brain was brought to
        if path.parent.name.startswith(GROUP):
            pairs.append(path.parent.name.split("-", 1))
        return cls(path=path, entities=dict(pairs), suffix=suffix)

    @property
    def kind(self) -> str:
        """The entities in which images of one session may not differ, as written in the name."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items() if key not in NO_DIFFERENCE)

    def get(self, key: str) -> str:
        """The value of an entity, "none" where the name does not have it."""
        return self.entities.get(key, "none")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The images of a session that are the same thing, repeated; those passed over for them, and why."""

    names: tuple[BidsName, ...]
    passed_over: tuple[BidsName, ...] = ()
    reasons: tuple[str, ...] = ()


def parse_entities(items: Sequence[str]) -> dict[str, str]:
    """Read `acq=mprage,spgr desc=none` as wanted entities; "none" wants names without that entity.

    Raises:
        SettingsError: an item has no "=".
    """
    wanted = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not (key and separator and value):
            raise SettingsError(f"--entity {item!r}: write NAME=VALUE, e.g. acq=mprage, or desc=none for none")
        wanted[key] = value
    return wanted


def matching(paths: Sequence[Path], suffix: str, wanted: Mapping[str, str]) -> list[BidsName]:
    """The images of a session with a suffix and the wanted entities, in natural order of their names.

    Of several values, with commas between them, the first counts that the session has.
    """
    names = [BidsName.of(path) for path in sorted(paths, key=lambda path: natural_order(path.name))]
    names = [name for name in names if name.suffix == suffix]
    for key, values in wanted.items():
        groups = ([name for name in names if name.get(key) == value] for value in values.split(","))
        names = next((group for group in groups if group), [])
    return names


def parse_end(text: str) -> tuple[dict[str, str], str]:
    """Read `acq-fast_FLAIR` as wanted entities and a suffix; as in `parse_entities`, "none" and "a,b" are values.

    Raises:
        SettingsError: it has no suffix.
    """
    *parts, suffix = text.split("_")
    if not suffix.isalnum() or not all(re.fullmatch(r"[A-Za-z0-9]+-[^-]+", part) for part in parts):
        raise SettingsError(
            f"--channel ...={text}: write how names end, entities and a suffix, e.g. FLAIR or acq-fast_FLAIR"
        )
    return {key: value for key, _, value in (part.partition("-") for part in parts)}, suffix


def choose(names: Sequence[BidsName], wanted: Mapping[str, str], session: str, channel: str = "") -> Chosen:
    """Leave only repeats of one image: magnitudes without contrast agent where there are others, too.

    Args:
        names: of one session.
        wanted: entities that the user chose already.
        session: for messages.
        channel: its name, for messages; "" of a source of one image.

    Raises:
        TableError: images differ in something else, so that taking the first would be a guess.
    """
    kept, reasons = list(names), []
    if "part" not in wanted and any(name.get("part") in NO_PICTURE for name in kept):
        kept = [name for name in kept if name.get("part") not in NO_PICTURE]
        reasons.append(WHAT_IS_SAFE["part"])
    for key, values in SAFE_CHOICES.items():
        safe = [name for name in kept if name.get(key) in values]
        if key not in wanted and safe and len(safe) < len(kept):
            kept = safe
            reasons.append(WHAT_IS_SAFE[key])
    if len({name.kind for name in kept}) > 1:
        raise TableError(_difference(kept, session, channel))
    passed_over = tuple(name for name in names if name not in kept)
    return Chosen(names=tuple(kept), passed_over=passed_over, reasons=tuple(reasons))


def _difference(names: Sequence[BidsName], session: str, channel: str) -> str:
    keys = dict.fromkeys(key for name in names for key in name.entities if key not in NO_DIFFERENCE)
    values = {key: sorted({name.get(key) for name in names}) for key in keys}
    differing = {key: found for key, found in values.items() if len(found) > 1}
    kinds = ", ".join(sorted({name.kind or "none of these" for name in names}))
    pairs = [(key, value) for key, found in differing.items() for value in found]
    if channel:
        options = " or ".join(f"--channel {channel}=...{key}-{value}_{names[0].suffix}" for key, value in pairs)
    else:
        options = " or ".join(f"--entity {key}={value}" for key, value in pairs)
    return f"{session} has images that differ in {' and '.join(differing)}: {kinds}; choose with {options}"
