"""Listing a raw dataset's files in linear time.

nnU-Net compares every file with every case: about a minute of computing for 10,000 cases, each time it is asked.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from adnext_plugin.errors import SettingsError

LISTING = "get_filenames_of_train_images_and_targets"  # of nnU-Net
CHANNEL = re.compile(r"(.+)_\d{4}")


def list_cases(raw_folder: str, dataset_json: dict) -> dict[str, dict]:
    """Images, one per channel, and the label file that a case would have, by case id: what nnU-Net's function gives.

    Raises:
        SettingsError: `dataset.json` does not say how files end.
    """
    folder, ending = Path(raw_folder), dataset_json.get("file_ending")
    if not isinstance(ending, str):
        path = folder / "dataset.json"
        raise SettingsError(f"{path}: file_ending must be text such as .nii.gz, got {ending!r}; import the data again")
    dataset: dict[str, dict] = {}
    for name in sorted(path.name for path in (folder / "imagesTr").glob(f"*{ending}")):
        if match := CHANNEL.fullmatch(name.removesuffix(ending)):
            label = str(folder / "labelsTr" / f"{match[1]}{ending}")
            case = dataset.setdefault(match[1], {"images": [], "label": label})
            case["images"].append(str(folder / "imagesTr" / name))
    return dict(sorted(dataset.items()))


@contextmanager
def listing_in_linear_time(module: ModuleType) -> Iterator[None]:
    """Within the block a module of nnU-Net lists cases by `list_cases`, unless its dataset.json lists them itself."""
    theirs = getattr(module, LISTING)

    def ours(raw_folder: str, dataset_json: dict) -> dict[str, dict]:
        return theirs(raw_folder, dataset_json) if "dataset" in dataset_json else list_cases(raw_folder, dataset_json)

    setattr(module, LISTING, ours)
    try:
        yield
    finally:
        setattr(module, LISTING, theirs)
