"""Names of BIDS files: `sub-01_ses-M06_run-2_T1w.nii.gz` as entities and a suffix.

pybids (with its SQL index, 20 packages) and bids2table (which brings Arrow) are not used: reading names is all that is
needed of them here, and neither joins the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.importing.image_files import natural_order

# two files of a session that differ here are versions of one scan; those that differ otherwise are further scans
VERSION_ENTITIES = ("space", "desc", "res", "den", "label", "cohort")


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
        return cls(path=path, entities=dict(pairs), suffix=suffix)

    @property
    def version(self) -> str:
        """The entities that tell versions of one scan apart, as written in the name."""
        return "_".join(f"{key}-{self.entities[key]}" for key in VERSION_ENTITIES if key in self.entities)


def parse_entities(items: Sequence[str]) -> dict[str, str]:
    """Read `acq=mprage desc=none` as wanted entities; "none" wants names without that entity.

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
    """The images with a suffix and the wanted entities, in natural order of their names."""
    names = [BidsName.of(path) for path in sorted(paths, key=lambda path: natural_order(path.name))]
    return [
        name
        for name in names
        if name.suffix == suffix and all(name.entities.get(key, "none") == value for key, value in wanted.items())
    ]


def refuse_versions(names: Sequence[BidsName], session: str) -> None:
    """Refuse to choose between versions of one scan, such as two spaces.

    Raises:
        TableError: there is more than one.
    """
    versions = sorted({name.version or "none of these" for name in names})
    if len(versions) > 1:
        raise TableError(
            f"{session} has images that differ in more than the run: {', '.join(versions)}; choose with --entity, e.g. "
            "--entity desc=none or --entity space=NAME"
        )
