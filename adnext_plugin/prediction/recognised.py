"""Whether a scan to be predicted, or its person, is one that the networks were trained on.

Checkpoints hold keyed digests of whom they have seen. They can be looked up where the project's key is, and those of
built-in weights everywhere. Bundles hold none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import pandas as pd

from adnext_plugin.builtin.weights import is_published, published_key
from adnext_plugin.errors import PathsError
from adnext_plugin.images import file_sha256
from adnext_plugin.people import possible_names, spellings
from adnext_plugin.prediction.inputs import Inputs
from adnext_plugin.project_key import digests, key_home, project_key
from adnext_plugin.run_records import Corpus


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Whom one network has seen: a test for digests of people, and one for those of images."""

    has_person: Callable[[str], bool]
    has_image: Callable[[str], bool]


def warnings_of(inputs: Inputs, corpora: Sequence[Corpus | None]) -> list[str | None]:
    """A line for each scan that networks have seen, or whose person they have, in the scans' order.

    Args:
        inputs: the scans.
        corpora: whom each network has seen, as its checkpoint says; None where it does not.
    """
    networks = [seen for corpus in corpora if (seen := _seen(corpus))]
    if not networks:
        return [None] * len(inputs.scans)
    images = _image_digests(inputs)
    return [
        _line(networks, len(corpora), scan.subject_id, image) for scan, image in zip(inputs.scans, images, strict=True)
    ]


def _line(networks: Sequence[Seen], count: int, subject_id: str, image: str) -> str | None:
    of_image = sum(seen.has_image(image) for seen in networks) if image else 0
    of_person = sum(seen.has_person(subject_id) for seen in networks) if subject_id else 0
    if not (of_image or of_person):
        return None
    what = "this very scan" if of_image else "a person of this id"
    return (
        f"trained on: {of_image or of_person} of {count} networks have seen {what}, so that the answer does not show "
        "how good they are; predictions.csv of adnext_evaluate has that of the network which has not"
    )


def _seen(corpus: Corpus | None) -> Seen | None:
    """None where nothing can be looked up: no list, or the key of another project."""
    if corpus is None:
        return None
    keyed = [(one, key) for one in (replace(corpus, published=()), *corpus.published) if (key := _key_of(one))]

    def has_image(image: str) -> bool:
        return any(digests([image], key)[0] in one.images for one, key in keyed)

    def has_person(subject_id: str) -> bool:
        names = possible_names(subject_id) | spellings(subject_id)
        return any({*digests(names, key)} & {*one.people, *one.subjects} for one, key in keyed)

    return Seen(has_person=has_person, has_image=has_image) if keyed else None


def _key_of(corpus: Corpus) -> bytes | None:
    if is_published(corpus.key_digest):
        return published_key()
    try:
        key = project_key(key_home())
    except PathsError:  # another user's, or no folders are set
        return None
    return key if sha256(key).hexdigest() == corpus.key_digest else None


def _image_digests(inputs: Inputs) -> list[str]:
    """SHA-256 of each scan's file, as the import notes it; "" where that is not known."""
    if inputs.is_prepared:
        known = inputs.columns.get("image_sha256", pd.Series("", index=inputs.columns.index))
        return known.fillna("").astype(str).tolist()
    return [file_sha256(scan.image) if scan.image.is_file() else "" for scan in inputs.scans]
