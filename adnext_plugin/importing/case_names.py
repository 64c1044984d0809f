"""Names of cases: ASCII letters and digits, so that every file system and nnU-Net takes them; distinct for people."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import session_key
from adnext_plugin.importing.scans import Scan
from adnext_plugin.names import DEVICES
from adnext_plugin.people import person_of

MAX_CASE_ID = 200  # characters; file systems allow 255, of which extensions and temporary names take some
DIGEST = 6  # hexadecimal digits, enough to part the few names that become one when they are transliterated


def case_ids(scans: Sequence[Scan]) -> list[str]:
    """The name of each scan's case, SUBJECT or SUBJECT_SESSION.

    Other scripts are transliterated: 李明 becomes LiMing. Where two people, or two sessions, would have one name, a
    piece of a digest of their own is added, the same in every import that has both.

    Raises:
        TableError: a name is too long for a file.
    """
    subjects = _ascii_names((scan.subject_id for scan in scans), person_of)
    sessions = _ascii_names((scan.session_id for scan in scans if scan.session_id), session_key)
    return [_joined(scan, subjects, sessions) for scan in scans]


def _joined(scan: Scan, subjects: Mapping[str, str], sessions: Mapping[str, str]) -> str:
    name = subjects[scan.subject_id]
    if scan.session_id:
        name = f"{name}_{sessions[scan.session_id]}"
    if len(name) > MAX_CASE_ID:
        raise TableError(f"subject and session {name[:40]}... have {len(name)} characters; shorten them")
    return name


def _ascii_names(texts: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    names = {text: _ascii(text) for text in dict.fromkeys(texts)}
    meant_by = defaultdict(set)
    for text, name in names.items():
        # file systems of some users do not tell upper from lower case
        meant_by[name.lower()].add(key(text))
    return {
        text: name
        if len(meant_by[name.lower()]) == 1 and name.upper() not in DEVICES
        else f"{name}-{sha256(text.encode()).hexdigest()[:DIGEST]}"
        for text, name in names.items()
    }


def _ascii(text: str) -> str:
    if not text.isascii():
        from anyascii import anyascii

        text = anyascii(text)
    # nnU-Net splits names at double underscores, and file systems dislike most else
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "x"
