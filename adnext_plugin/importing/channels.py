"""Several images of a session as the channels of one case: their names, which belong together, which are missing."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adnext_plugin.choices import MissingChannel
from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.people import person_of

Labelled = list[tuple[Scan, str | float | None]]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*", re.ASCII)
HAS = "has_"  # and a channel's name: the column of subjects.csv that says whether a case has it
# ids in names of files that say by themselves whose they are
PEOPLE = re.compile(
    r"(?:\d{3}_S_\d{4,5}|OAS[12]_\d{4}|OAS[34]\d{4}|IXI\d{3}|(?<![A-Za-z0-9])sub-[A-Za-z0-9]+)", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What a channel is called, and where its images are: `where` is read as the source has it.

    Of a table it is a column of files or a pattern of paths; of a BIDS tree the end of names, `FLAIR` or
    `acq-fast_FLAIR`; of LONI's list a condition, or a part of the Description.
    """

    name: str
    where: str


def parse_channels(items: Sequence[str]) -> tuple[Channel, ...]:
    """Read `T1=T1w`, `FLAIR` as channels; one without "=" is called as what it is found by.

    Raises:
        SettingsError: a name is none, or stands there twice.
    """
    channels = []
    for item in items:
        name, separator, where = item.partition("=")
        channel = Channel(name=name.strip(), where=where.strip() if separator else name.strip())
        if not NAME.fullmatch(channel.name) or not channel.where:
            raise SettingsError(
                f"--channel {item!r}: write NAME=PATTERN, with a name of letters and digits, e.g. FLAIR=acq-3d_FLAIR"
            )
        channels.append(channel)
    for name, times in Counter(channel.name.casefold() for channel in channels).items():
        if times > 1:
            raise SettingsError(f"--channel {name}: there are {times} of this name; give each its own")
    return tuple(channels)


def join_channels(sources: Mapping[str, Source]) -> Source:
    """One source of the sources of channels: each scan of the first, with the others' images of its session.

    Of repeats within a session the first serves, as in a source of one channel.
    """
    (name, first), *others = sources.items()
    images: dict[tuple[str, str], list[Path | None]] = {_session(scan): [] for scan in first.scans}
    unused, notes = list(first.unused_images), list(first.notes)
    for other_name, other in others:
        of_sessions: dict[tuple[str, str], Scan] = {}
        for scan in other.scans:
            earlier = of_sessions.setdefault(_session(scan), scan)
            if earlier is not scan:
                _refuse_other_makeup(other_name, earlier, scan)
                unused.append(str(scan.image))
        alone = [session for session in of_sessions if session not in images]
        if alone:
            notes.append(
                f"{len(alone)} sessions have {other_name} without {name} and were passed over, the first "
                f"{' '.join(alone[0]).strip()}"
            )
            unused += [str(of_sessions[session].image) for session in alone]
        unused += other.unused_images
        notes += [note for note in other.notes if note not in notes]
        for session, found in images.items():
            found.append(of_sessions[session].image if session in of_sessions else None)
    scans = tuple(replace(scan, further=tuple(images[_session(scan)])) for scan in first.scans)
    return replace(first, scans=scans, channels=tuple(sources), unused_images=tuple(unused), notes=tuple(notes))


def settle_missing(labelled: Labelled, channels: Sequence[str], how: MissingChannel) -> tuple[Labelled, dict[str, int]]:
    """The scans that stay where some lack a channel, and by filter how many do not.

    Args:
        labelled: scans with their targets.
        channels: what the source's channels are called.
        how: refuse; leave out whom a channel is missing of; or fill it with 0 later.

    Raises:
        TableError: a channel is missing, and nobody said what to do; or everybody lacks one.
    """
    scans = [scan for scan, _ in labelled]
    lacking = {name: [scan for scan in scans if scan.further[place] is None] for place, name in enumerate(channels[1:])}
    for name, found in lacking.items():
        if len(found) == len(scans):
            raise TableError(f"no scan has an image of {name}; check --channel {name}=...")
    lacking = {name: found for name, found in lacking.items() if found}
    if how == "refuse" and lacking:
        missing = "; ".join(
            f"{name} of {len(found)} of {len(scans)} scans, the first {found[0]}" for name, found in lacking.items()
        )
        raise TableError(
            f"images are missing: {missing}; get them, or say what to do: --missing-channel leave-out leaves such "
            "scans out, --missing-channel zero puts 0 in place of an image and notes it"
        )
    if how == "leave-out":
        kept = [(scan, target) for scan, target in labelled if None not in scan.further]
        if not kept:
            raise TableError(f"no scan has all of {', '.join(channels)}")
        return kept, {"--missing-channel leave-out": len(scans) - len(kept)}
    return labelled, {}


def refuse_other_people(scans: Sequence[Scan], channels: Sequence[str]) -> None:
    """Refuse images of one case whose own names say that they are of different people.

    Raises:
        TableError: with both names.
    """
    for scan in scans:
        first = _named_people(scan.image)
        for name, other in zip(channels[1:], scan.further, strict=True):
            if other is not None and first and (found := _named_people(other)) and first.isdisjoint(found):
                raise TableError(
                    f"{scan}: by their names {channels[0]} ({scan.image.name}) and {name} ({other.name}) are of "
                    "different people; correct the table or the pattern"
                )


def missing_notes(scans: Sequence[Scan], channels: Sequence[str]) -> Iterator[str]:
    """A line for each channel that is 0 in some scans."""
    for place, name in enumerate(channels[1:]):
        found = [scan for scan in scans if scan.further[place] is None]
        if found:
            yield (
                f"{name} is missing of {len(found)} scans, the first {found[0]}, and is 0 there; the column "
                f"{HAS}{name} of subjects.csv says of whom"
            )


def _refuse_other_makeup(channel: str, one: Scan, other: Scan) -> None:
    differing = [name for name, value in one.makeup.items() if other.makeup.get(name) != value]
    if differing:
        name = differing[-1]
        raise TableError(
            f"{one} has images of {channel} that differ in {' and '.join(differing)}: {one.row[name]!r} "
            f"({one.image.name}) and {other.row[name]!r} ({other.image.name}); choose with --channel "
            f"'{channel}={name}=={one.row[name]}'"
        )


def _session(scan: Scan) -> tuple[str, str]:
    return scan.subject_id, scan.session_id.lower()


def _named_people(image: Path) -> set[str]:
    """Whom a file's name, or else its folder's, says it is of, in one spelling; empty where neither does."""
    for text in (image.name, image.parent.name):
        if found := PEOPLE.findall(text):
            return {person_of(one) for one in found}
    return set()
