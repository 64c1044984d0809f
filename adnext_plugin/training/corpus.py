"""Whom a network has seen, told without naming anyone.

A later check must find out whether a person of a test set was in the data that a run's first weights were trained on.
Ids and image hashes are therefore kept as digests made with the project's key.
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from adnext_plugin.builtin.weights import is_published
from adnext_plugin.people import people_of
from adnext_plugin.project_key import digests, project_key
from adnext_plugin.run_records import Corpus


def describe_corpus(subjects: pd.DataFrame, dataset: str, home: Path) -> Corpus:
    """Number and keyed digests of subjects and images.

    Args:
        subjects: rows of `subjects.csv` that were trained on.
        dataset: their dataset's name; a merged dataset's rows name their own.
        home: the folder that holds the project's key.
    """
    return corpus_with_key(subjects, dataset, project_key(home))


def corpus_with_key(subjects: pd.DataFrame, dataset: str, key: bytes) -> Corpus:
    """As `describe_corpus`, with a key that is given."""
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
        earlier: None, or made with another project's key, where that cannot be known; `complete` then is False. A list
            made with the published key is kept beside the own one, for it can be looked up everywhere.
    """
    if earlier is None:
        return replace(corpus, complete=False)
    published = _lists(corpus.published, earlier.published)
    if earlier.key_digest != corpus.key_digest:
        if is_published(earlier.key_digest):
            published = _lists(published, (replace(earlier, published=()),))
            return replace(corpus, complete=corpus.complete and earlier.complete, published=published)
        return replace(corpus, complete=False, published=published)
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
        published=published,
    )


def _lists(one: tuple[Corpus, ...], other: tuple[Corpus, ...]) -> tuple[Corpus, ...]:
    return (*one, *(corpus for corpus in other if corpus not in one))


def _together(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))
