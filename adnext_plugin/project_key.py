"""The project's key, and digests made with it: they tell whether two things are equal, and name nobody without the key.

The key is a file beside the project's preprocessed data and never leaves it: without it, shared files cannot be
searched for known ids.
"""

import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json
from adnext_plugin.partial_files import partial_file
from adnext_plugin.paths import PERMUTED_FOLDER, SEED_FOLDER, preprocessed_dir, results_dir

KEY_FILE = ".adnext_key.json"
WRITING_SECONDS = 2.0  # what writing it may take on a file system without hard links, where it is seen while empty


def keyed_digest(text: str, key: bytes) -> str:
    """Keyed SHA-256 digest of a text."""
    return hmac.new(key, text.encode(), sha256).hexdigest()


def digests(names: Iterable[str], key: bytes) -> list[str]:
    """Keyed digests of distinct names, sorted, so that their order tells nothing."""
    return sorted({keyed_digest(str(name), key) for name in names if name})


def key_home() -> Path:
    """The folder of the project's key: that of the preprocessed data, which hold the people themselves.

    Results are shared, a key is not. One that an earlier version left with the results is moved.
    """
    home, earlier = preprocessed_dir(), _outer(results_dir()) / KEY_FILE
    if earlier.is_file() and not (home / KEY_FILE).exists():
        with suppress(PathsError):  # another process has just moved it
            _put_in_place(home / KEY_FILE, read_json(earlier))
        earlier.unlink(missing_ok=True)
    return home


def project_key(home: Path) -> bytes:
    """The key in a folder; drawn when first asked for, readable by its owner only.

    Raises:
        PathsError: the key is another user's, or damaged.
    """
    path = home / KEY_FILE
    if not path.exists():
        _put_in_place(path, {"key": secrets.token_hex(32)})
    if not os.access(path, os.R_OK):
        raise PathsError(
            f"{path} is another user's, and without it nobody can tell whether two runs have seen the same people; "
            f"ask its owner for: chmod g+r {path}"
        )
    deadline = time.monotonic() + WRITING_SECONDS
    while path.stat().st_size == 0 and time.monotonic() < deadline:
        time.sleep(0.01)  # whoever made it has not written it yet
    try:
        return bytes.fromhex(read_json(path)["key"])
    except (TypeError, KeyError, ValueError) as error:
        raise PathsError(f"{path} holds no key; restore it, or delete it to have a new one drawn") from error


def _outer(results: Path) -> Path:
    """The project's results folder, of that of another seed or of permuted labels inside it."""
    return results.parent if results.name.startswith((SEED_FOLDER, PERMUTED_FOLDER)) else results


def _put_in_place(path: Path, content: dict) -> None:
    """Make the key's file unless somebody else does so first: of several who try at once, all end with one key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path.parent, path.name) as temporary:  # only its owner may read it
        temporary.write_text(json.dumps(content))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            with suppress(FileExistsError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(descriptor, temporary.read_bytes())
                os.close(descriptor)
