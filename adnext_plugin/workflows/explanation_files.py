"""The files of maps: of each case over its scan, of groups of people over the template's brain."""

import re
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
THREADS = 2
FILMS = ("gif", "png", "webp")  # as `explanations.animation` makes them, which commands need not load for their help


class CaseFiles:
    """Writes the files of maps, those of some cases while the next is explained.

    Args:
        threshold: of masks.
        folder: for the files.
        task: whose classes a film is coloured by.
        animate: also a film, in this form.
    """

    def __init__(
        self, threshold: "ThresholdSettings", folder: Path, task: "Task", animate: "Form | None" = None
    ) -> None:
        self._threshold, self._folder, self._task, self._animate = threshold, folder, task, animate
        # most of the time is interpolation and compression, which threads share
        self._pool = ThreadPoolExecutor(THREADS)
        self._written: deque[list[Future[None]]] = deque()

    def add(self, found: "ExplainedCase") -> dict[str, Any]:
        """Begin to write the map, its mask, its picture and a film; gives the case's row of the table.

        Raises:
            AdnextError: the files of a case before could not be written.
        """
        import numpy as np

        from adnext_plugin.explanations.thresholds import stands_out

        mask_zyx = stands_out(found.map_zyx, found.brain_zyx, self._threshold)
        self._wait(but=THREADS - 1)
        writers = [self._write_map, self._write_mask, self._write_picture]
        writers += [] if self._animate is None else [self._write_film]
        self._written.append([self._pool.submit(write, found, mask_zyx) for write in writers])
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

    def finish(self) -> None:
        """Wait until all files are there.

        Raises:
            AdnextError: one of them could not be written.
        """
        self._wait(but=0)

    def _wait(self, but: int) -> None:
        """Until no more than so many cases are being written."""
        while len(self._written) > but:
            for one in self._written.popleft():
                one.result()

    def _write_map(self, found: "ExplainedCase", mask_zyx: "np.ndarray") -> None:
        from adnext_plugin.explanations.placement import over_scan, write_nifti

        write_nifti(over_scan(found.map_zyx, found.affine, found.properties), self._folder / f"{found.case_id}.nii.gz")

    def _write_mask(self, found: "ExplainedCase", mask_zyx: "np.ndarray") -> None:
        from adnext_plugin.explanations.placement import over_scan, write_nifti

        mask = over_scan(mask_zyx, found.affine, found.properties)
        inside = _volume((mask.volume_zyx > 0.5).astype("uint8"), mask.affine)
        write_nifti(inside, self._folder / f"{found.case_id}_mask.nii.gz")

    def _write_picture(self, found: "ExplainedCase", mask_zyx: "np.ndarray") -> None:
        from adnext_plugin.explanations.montage import montage

        with replacing(self._folder / f"{found.case_id}.png") as temporary:
            temporary.write_bytes(montage(found.image_zyx, found.map_zyx, mask_zyx))

    def _write_film(self, found: "ExplainedCase", mask_zyx: "np.ndarray") -> None:
        from adnext_plugin.explanations.animation import animation

        target, form = str(self._task.target), self._animate
        assert form is not None
        film = animation(
            found.image_zyx,
            found.map_zyx,
            mask_zyx,
            title=f"{found.case_id}, {target}: {found.called}" if found.called else f"{found.case_id}, {target}",
            called=found.called,
            classes=self._task.classes,
            form=form,
        )
        # a PNG is a picture of the case already
        with replacing(self._folder / f"{found.case_id}.{'film.png' if form == 'png' else form}") as temporary:
            temporary.write_bytes(film)


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
