"""Reading every image once before anything is written: is it usable, and is it there twice?"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from adnext_plugin.channel_files import on_grid_of, other_grid
from adnext_plugin.errors import AdnextError, ImageError, SettingsError, nearest_names
from adnext_plugin.headers import KINDS, Doubt
from adnext_plugin.images import Volume, file_sha256, read_volume
from adnext_plugin.importing.cases import Case
from adnext_plugin.importing.image_files import refuse_dicom
from adnext_plugin.parallel import for_each


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """SHA-256 of a file's bytes, and of its voxels, which stays the same when the file is compressed anew.

    `doubts` are what the file leaves open. `further` are the other images of the case, None for one that is missing.
    """

    file_sha256: str
    voxels_sha256: str
    doubts: tuple[Doubt, ...] = ()
    further: tuple["CheckedImage | None", ...] = ()


def check_images(
    cases: Sequence[Case], *, processes: int, accepted: Collection[str] = (), on_one_grid: bool = True
) -> list[CheckedImage]:
    """Read the images of all cases.

    Args:
        cases: whose images.
        processes: how many read at once.
        accepted: kinds of doubt that the user has looked into.
        on_one_grid: the images of a case must be; not where they will be brought there.

    Raises:
        SettingsError: no such kind.
        ImageError: some are unusable, one line each, one image belongs to two cases, headers have no safe reading, or
            images of a case lie on different grids.
    """
    for kind in accepted:
        if kind not in KINDS:
            raise SettingsError(f"--accept {kind}: there is no such doubt{nearest_names(kind, KINDS)}")
    paths = [(case.scan.image, *case.scan.further) for case in cases]
    check = partial(check_scan, on_one_grid=on_one_grid)
    outcomes: dict[int, CheckedImage | AdnextError] = dict(
        for_each(check, paths, processes=processes, description="Checking images")
    )
    problems = [str(outcomes[i]) for i in range(len(paths)) if isinstance(outcomes[i], AdnextError)]
    if problems:
        raise ImageError("\n".join(problems))
    checked = [outcome for i in range(len(paths)) if isinstance(outcome := outcomes[i], CheckedImage)]
    _refuse_shared_images(cases, checked)
    unsafe = [
        f"{found['scans']} of {len(cases)} scans, the first {found['first']}: {found['what']}; repair the headers, or, "
        f"if you have looked and this reading is right, import with --accept {kind}"
        for kind, found in doubts_of(cases, checked, accepted).items()
        if found["needs_accepting"] and not found["accepted"]
    ]
    if unsafe:
        raise ImageError("\n".join(unsafe))
    return checked


def doubt_notes(doubts: Mapping[str, dict]) -> list[str]:
    """One line for each kind of doubt, for the terminal and the report."""
    return [
        f"{found['scans']} scans, the first {found['first']}: {found['what']}"
        + (f" (--accept {kind})" if found["accepted"] else "")
        for kind, found in doubts.items()
    ]


def doubts_of(
    cases: Sequence[Case], checked: Sequence[CheckedImage], accepted: Collection[str] = ()
) -> dict[str, dict]:
    """By kind of doubt how many scans have it, which is the first, what it is there, whether the user accepted it."""
    doubts: dict[str, dict] = {}
    for _, path, image in _each_image(cases, checked):
        for doubt in image.doubts:
            found = doubts.setdefault(
                doubt.kind,
                {
                    "scans": 0,
                    "first": str(path),
                    "what": doubt.text,
                    "needs_accepting": False,
                    "accepted": False,
                },
            )
            found["scans"] += 1
            if not doubt.has_safe_reading and not found["needs_accepting"]:
                found |= {"first": str(path), "what": doubt.text, "needs_accepting": True}
                found["accepted"] = doubt.kind in accepted
    return doubts


def check_scan(images: Sequence[Path | None], *, on_one_grid: bool = True) -> CheckedImage:
    """Read the images of one case.

    Args:
        images: the first and the further ones, None for one that is missing.
        on_one_grid: all must lie on that of the first.

    Raises:
        ImageError: one is unusable, or lies elsewhere.
    """
    path = images[0]
    assert path is not None  # there is no case without a first image
    first, volume = _read(path)
    further: list[CheckedImage | None] = []
    for other_path in images[1:]:
        if other_path is None:
            further.append(None)
            continue
        checked, other = _read(other_path)
        if on_one_grid and on_grid_of(volume, other) is None:
            raise other_grid(other_path, other, path, volume)
        further.append(checked)
    return replace(first, further=tuple(further))


def _read(path: Path) -> tuple[CheckedImage, Volume]:
    try:
        refuse_dicom(path)
        volume = read_volume(path)
    except OSError as error:  # such as a name that is too long for any file
        raise ImageError(f"{str(path)[:200]} cannot be opened ({error.strerror}); correct the path") from error
    digest = sha256(repr(volume.volume_zyx.shape).encode())
    digest.update(volume.volume_zyx.data)
    checked = CheckedImage(file_sha256=file_sha256(path), voxels_sha256=digest.hexdigest(), doubts=volume.doubts)
    return checked, volume


def _each_image(cases: Sequence[Case], checked: Sequence[CheckedImage]) -> Iterator[tuple[Case, Path, CheckedImage]]:
    """All images that there are, case by case."""
    for case, image in zip(cases, checked, strict=True):
        yield case, case.scan.image, image
        for path, other in zip(case.scan.further, image.further, strict=True):
            if path is not None and other is not None:
                yield case, path, other


def _refuse_shared_images(cases: Sequence[Case], checked: Sequence[CheckedImage]) -> None:
    first: dict[str, tuple[Case, Path]] = {}
    for case, path, image in _each_image(cases, checked):
        earlier, earlier_path = first.setdefault(image.voxels_sha256, (case, path))
        if earlier_path is path:
            continue
        who = f"under two sessions of {case.subject_id}"
        if earlier is case:
            who = f"as two channels of {case.scan}"
        elif earlier.subject_id != case.subject_id:
            who = f"under subjects {earlier.subject_id} and {case.subject_id}"
        raise ImageError(f"{earlier_path} and {path} hold the same image, {who}; correct the table or leave one out")
