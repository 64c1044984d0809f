"""Whom a network has seen, told without naming anyone.

A later check must find out whether a person of a test set was in the data that a run's first weights were trained on.
Ids and image hashes are therefore kept as keyed digests. The key is a file in the project's results folder and never
leaves it: without it, a shared checkpoint cannot be searched for known ids.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pandas as pd

from adnext_plugin.files import read_json
from adnext_plugin.paths import PERMUTED_FOLDER, SEED_FOLDER
from adnext_plugin.people import people_of

KEY_FILE = ".adnext_key.json"


def describe_corpus(subjects: pd.DataFrame, dataset: str, results: Path) -> dict:
    """Number and keyed digests of subjects and images.

    Args:
        subjects: rows of `subjects.csv` that were trained on.
        dataset: their dataset's name; a merged dataset's rows name their own.
        results: the project's results folder, which holds the key.
    """
    key = project_key(results)
    names = sorted(set(subjects["dataset"])) if "dataset" in subjects else [dataset]
    images = subjects.get("image_sha256", [])
    return {
        "datasets": names,
        "complete": True,
        "subject_count": int(subjects["subject_id"].nunique()),
        "scan_count": len(subjects),
        "key_digest": sha256(key).hexdigest(),  # tells whether two lists were made with one key
        "subjects": digests(subjects["subject_id"], key),
        "people": digests(list(people_of(subjects["subject_id"].astype(str)).values()), key),
        "images": digests(images, key),
    }


def joined(corpus: dict, earlier: Mapping | None) -> dict:
    """What a network has seen that began with weights of another, which had seen `earlier`.

    Args:
        earlier: None, or made with another key, where that cannot be known; `complete` then is False.
    """
    if earlier is None or earlier["key_digest"] != corpus["key_digest"]:
        return {**corpus, "complete": False}
    names = ("datasets", "subjects", "people", "images")
    lists = {name: sorted({*corpus.get(name, ()), *earlier.get(name, ())}) for name in names}
    scans = corpus["scan_count"] + earlier["scan_count"]
    # an image in both is one scan; without hashes there is no telling
    if corpus["images"] and earlier["images"]:
        scans = len(lists["images"])
    counts = {"subject_count": len(lists["subjects"]), "scan_count": scans}
    return {**corpus, **lists, **counts, "complete": earlier.get("complete", True)}


def digests(names: pd.Series | list[str], key: bytes) -> list[str]:
    """Keyed SHA-256 digests of distinct names, sorted, so that their order tells nothing."""
    return sorted({hmac.new(key, str(name).encode(), sha256).hexdigest() for name in names if name})


def project_key(results: Path) -> bytes:
    """The key of a results folder; drawn when first asked for, readable by its owner only.

    What is trained again under another seed or on permuted labels has a folder in that of the results, and its key.
    """
    if results.name.startswith((SEED_FOLDER, PERMUTED_FOLDER)):
        results = results.parent
    path = results / KEY_FILE
    if not path.is_file():
        results.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps({"key": secrets.token_hex(32)}))
        temporary.replace(path)
    return bytes.fromhex(read_json(path)["key"])
