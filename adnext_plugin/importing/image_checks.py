"""Reading every image once before anything is written: is it usable, and is it there twice?"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from adnext_plugin.errors import AdnextError, ImageError, SettingsError, nearest_names
from adnext_plugin.headers import KINDS, Doubt
from adnext_plugin.images import file_sha256, read_volume
from adnext_plugin.importing.cases import Case
from adnext_plugin.importing.image_files import refuse_dicom
from adnext_plugin.parallel import for_each


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """SHA-256 of a file's bytes, and of its voxels, which stays the same when the file is compressed anew.

    `doubts` are what the file leaves open.
    """

    file_sha256: str
    voxels_sha256: str
    doubts: tuple[Doubt, ...] = ()


def check_images(cases: Sequence[Case], *, processes: int, accepted: Collection[str] = ()) -> list[CheckedImage]:
    """Read the images of all cases.

    Args:
        cases: whose images.
        processes: how many read at once.
        accepted: kinds of doubt that the user has looked into.

    Raises:
        SettingsError: no such kind.
        ImageError: some are unusable, one line each, one image belongs to two cases, or headers have no safe reading.
    """
    for kind in accepted:
        if kind not in KINDS:
            raise SettingsError(f"--accept {kind}: there is no such doubt{nearest_names(kind, KINDS)}")
    paths = [case.scan.image for case in cases]
    outcomes: dict[int, CheckedImage | AdnextError] = dict(
        for_each(check_image, paths, processes=processes, description="Checking images")
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
    for case, image in zip(cases, checked, strict=True):
        for doubt in image.doubts:
            found = doubts.setdefault(
                doubt.kind,
                {
                    "scans": 0,
                    "first": str(case.scan.image),
                    "what": doubt.text,
                    "needs_accepting": False,
                    "accepted": False,
                },
            )
            found["scans"] += 1
            if not doubt.has_safe_reading and not found["needs_accepting"]:
                found |= {"first": str(case.scan.image), "what": doubt.text, "needs_accepting": True}
                found["accepted"] = doubt.kind in accepted
    return doubts


def check_image(path: Path) -> CheckedImage:
    """Read one image.

    Raises:
        ImageError: it is unusable.
    """
    try:
        refuse_dicom(path)
        volume = read_volume(path)
    except OSError as error:  # such as a name that is too long for any file
        raise ImageError(f"{str(path)[:200]} cannot be opened ({error.strerror}); correct the path") from error
    digest = sha256(repr(volume.volume_zyx.shape).encode())
    digest.update(volume.volume_zyx.data)
    return CheckedImage(file_sha256=file_sha256(path), voxels_sha256=digest.hexdigest(), doubts=volume.doubts)


def _refuse_shared_images(cases: Sequence[Case], checked: Sequence[CheckedImage]) -> None:
    first: dict[str, Case] = {}
    for case, image in zip(cases, checked, strict=True):
        earlier = first.setdefault(image.voxels_sha256, case)
        if earlier is case:
            continue
        who = (
            f"subjects {earlier.subject_id} and {case.subject_id}"
            if earlier.subject_id != case.subject_id
            else f"two sessions of {case.subject_id}"
        )
        raise ImageError(
            f"{earlier.scan.image} and {case.scan.image} hold the same image, under {who}; correct the table or leave "
            "one out"
        )
