"""The JSON files beside BIDS images: field strength, vendor, model and institution."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json
from adnext_plugin.importing.sources.bids_names import BidsName

FIELDS = ("MagneticFieldStrength", "Manufacturer", "ManufacturersModelName", "InstitutionName")


class BidsSidecars:
    """Reads each JSON file once; a file applies to all images below its folder whose names have its entities."""

    def __init__(self, roots: Sequence[Path], suffix: str) -> None:
        """Look in these trees, the least important first: a derivative's own comes after the raw one."""
        self.roots = tuple(roots)
        self.suffix = suffix
        self.notes: list[str] = []
        self.contents = cache(self._contents)

    def fields_of(self, image: BidsName) -> dict[str, str]:
        """What the files say that apply to an image; the nearer one wins. A damaged file is passed over with a note."""
        found: dict[str, str] = {}
        names = [f"{key}-{image.entities[key]}" if key in image.entities else "" for key in ("sub", "ses")]
        for root in self.roots:
            levels = [root, root / names[0], root / names[0] / names[1], root / names[0] / names[1] / "anat"]
            for folder in dict.fromkeys([*levels, image.path.parent]):
                for name, content in self.contents(folder):
                    if name.entities.items() <= image.entities.items():
                        found |= {key: str(content[key]) for key in FIELDS if content.get(key) is not None}
        return found

    def _contents(self, folder: Path) -> list[tuple[BidsName, dict]]:
        # a name with fewer entities is for more images, and so comes first to be overruled
        names = sorted((BidsName.of(path) for path in folder.glob("[!.]*.json")), key=lambda name: len(name.entities))
        contents = [(name, self._read(name.path)) for name in names if name.suffix == self.suffix]
        return [(name, content) for name, content in contents if isinstance(content, dict)]

    def _read(self, path: Path) -> dict | list | None:
        try:
            return read_json(path)
        except (PathsError, OSError) as error:
            self.notes.append(f"not used: {error}")
            return None
