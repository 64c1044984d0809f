"""The files of maps: of each case over its scan, of groups of people over the template's brain."""

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from adnext_plugin.explanations.animation import Form
    from adnext_plugin.explanations.thresholds import ThresholdSettings
    from adnext_plugin.images import Volume
    from adnext_plugin.prediction.held_out_explanations import ExplainedCase
    from adnext_plugin.task import Task

EVERYBODY = "all"
FILMS = ("gif", "png", "webp")  # as `explanations.animation` makes them, which commands need not load for their help


def write_case(
    found: "ExplainedCase", threshold: "ThresholdSettings", folder: Path, task: "Task", animate: "Form | None" = None
) -> dict[str, Any]:
    """Write the map, its mask, its picture and, if a form is given, a film; gives its row of the table."""
    import numpy as np

    from adnext_plugin.explanations.animation import animation
    from adnext_plugin.explanations.montage import montage
    from adnext_plugin.explanations.placement import over_scan, write_nifti
    from adnext_plugin.explanations.thresholds import stands_out

    mask_zyx = stands_out(found.map_zyx, found.brain_zyx, threshold)

    def write_map() -> None:
        write_nifti(over_scan(found.map_zyx, found.affine, found.properties), folder / f"{found.case_id}.nii.gz")

    def write_mask() -> None:
        mask = over_scan(mask_zyx, found.affine, found.properties)
        inside = (mask.volume_zyx > 0.5).astype(np.uint8)
        write_nifti(type(mask)(volume_zyx=inside, affine=mask.affine), folder / f"{found.case_id}_mask.nii.gz")

    with ThreadPoolExecutor(2) as pool:  # most of the time is interpolation and compression, which threads share
        written = [pool.submit(write) for write in (write_map, write_mask)]
        with replacing(folder / f"{found.case_id}.png") as temporary:
            temporary.write_bytes(montage(found.image_zyx, found.map_zyx, mask_zyx))
        for one in written:
            one.result()
    if animate is not None:
        what = f"{task.target}: {found.called}" if found.called else str(task.target)
        film = animation(
            found.image_zyx,
            found.map_zyx,
            mask_zyx,
            title=f"{found.case_id}, {what}",
            called=found.called,
            classes=task.classes,
            form=animate,
        )
        # a PNG is a picture of the case already
        ending = "film.png" if animate == "png" else animate
        with replacing(folder / f"{found.case_id}.{ending}") as temporary:
            temporary.write_bytes(film)
    in_brain = np.where(found.brain_zyx, found.map_zyx, -np.inf)
    z, y, x = np.unravel_index(int(in_brain.argmax()), in_brain.shape)
    peak_mm = found.affine @ [x, y, z, 1]
    return {
        "case_id": found.case_id,
        "subject_id": found.subject_id,
        **({} if found.fold is None else {"fold": found.fold}),
        "called": found.called or "",
        "score": found.score,
        **{f"peak_{axis}_mm": round(float(value), 1) for axis, value in zip("xyz", peak_mm[:3], strict=True)},
        "share_of_brain": float(mask_zyx.sum() / max(found.brain_zyx.sum(), 1)),
    }


class GroupMaps:
    """Means over people of maps over the template, of everybody and of each class.

    Args:
        people: whose scan a case is; the scans of a person count as one.
        classes: what each case truly is; empty where there are no classes.
    """

    def __init__(self, people: Mapping[str, str], classes: Mapping[str, str]) -> None:
        self._people, self._classes = people, classes
        self._scans = Counter(people.values())
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, set[str]] = {}

    def add(self, case: str, relative_zyx: "np.ndarray") -> None:
        """Take in the map of a case."""
        person = self._people[case]
        of_class = [self._classes[case]] if case in self._classes else []
        for group in (EVERYBODY, *of_class):
            part = relative_zyx / self._scans[person]
            self._sums[group] = self._sums[group] + part if group in self._sums else part
            self._counts.setdefault(group, set()).add(person)

    def write(self, threshold: "ThresholdSettings", folder: Path) -> dict[str, int]:
        """Write a map and a picture of each group; gives the number of its people."""
        from adnext_plugin.explanations.montage import montage
        from adnext_plugin.explanations.placement import write_nifti
        from adnext_plugin.explanations.thresholds import stands_out
        from adnext_plugin.mni152 import mni152

        template = mni152()
        for group, people in self._counts.items():
            mean_zyx = (self._sums[group] / len(people)).astype("float32")
            write_nifti(_volume(mean_zyx, template.affine), group_file(folder, group))
            mask_zyx = stands_out(mean_zyx, template.brain_zyx, threshold)
            with replacing(group_file(folder, group).with_suffix("").with_suffix(".png")) as temporary:
                temporary.write_bytes(montage(template.volume_zyx, mean_zyx, mask_zyx))
        return {group: len(people) for group, people in self._counts.items()}


def group_file(folder: Path, group: str) -> Path:
    """Where the mean map of a group is, in MNI152 space."""
    plain = re.sub(r"[^\w\-]+", "_", group)
    return folder / f"group_{plain}.nii.gz"


def _volume(volume_zyx: "np.ndarray", affine: "np.ndarray") -> "Volume":
    from adnext_plugin.images import Volume

    return Volume(volume_zyx=volume_zyx, affine=affine)
