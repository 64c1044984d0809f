"""Whom a network has seen, told without naming anyone.

A later check must find out whether a person of a test set was in the data that a run's first weights were trained on.
Ids and image hashes are therefore kept as keyed digests. The key is a file beside the project's preprocessed data and
never leaves it: without it, a shared checkpoint cannot be searched for known ids.
"""

import hmac
import json
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json
from adnext_plugin.partial_files import partial_file
from adnext_plugin.paths import PERMUTED_FOLDER, SEED_FOLDER, preprocessed_dir, results_dir
from adnext_plugin.people import people_of
from adnext_plugin.run_records import Corpus

KEY_FILE = ".adnext_key.json"


def describe_corpus(subjects: pd.DataFrame, dataset: str, home: Path) -> Corpus:
    """Number and keyed digests of subjects and images.

    Args:
        subjects: rows of `subjects.csv` that were trained on.
        dataset: their dataset's name; a merged dataset's rows name their own.
        home: the folder that holds the project's key.
    """
    key = project_key(home)
    names = sorted(set(subjects["dataset"])) if "dataset" in subjects else [dataset]
    images: pd.Series | list[str] = subjects.get("image_sha256", [])
    return Corpus(
        datasets=tuple(names),
        subject_count=int(subjects["subject_id"].nunique()),
        scan_count=len(subjects),
        key_digest=sha256(key).hexdigest(),
        subjects=tuple(digests(subjects["subject_id"], key)),
        people=tuple(digests(list(people_of(subjects["subject_id"].astype(str)).values()), key)),
        images=tuple(digests(images, key)),
    )


def joined(corpus: Corpus, earlier: Corpus | None) -> Corpus:
    """What a network has seen that began with weights of another, which had seen `earlier`.

    Args:
        corpus: its own.
        earlier: None, or made with another key, where that cannot be known; `complete` then is False.
    """
    if earlier is None or earlier.key_digest != corpus.key_digest:
        return replace(corpus, complete=False)
    images = _together(corpus.images, earlier.images)
    subjects = _together(corpus.subjects, earlier.subjects)
    # an image in both is one scan; without hashes there is no telling
    all_known = corpus.images and earlier.images
    return Corpus(
        datasets=_together(corpus.datasets, earlier.datasets),
        complete=earlier.complete,
        subject_count=len(subjects),
        scan_count=len(images) if all_known else corpus.scan_count + earlier.scan_count,
        key_digest=corpus.key_digest,
        subjects=subjects,
        people=_together(corpus.people, earlier.people),
        images=images,
    )


def digests(names: pd.Series | list[str], key: bytes) -> list[str]:
    """Keyed SHA-256 digests of distinct names, sorted, so that their order tells nothing."""
    return sorted({hmac.new(key, str(name).encode(), sha256).hexdigest() for name in names if name})


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
            if not path.exists():
                temporary.replace(path)


def _together(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))
