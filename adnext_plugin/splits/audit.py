"""Searching a dataset and its folds for people and images that are on both sides of a fold, or were seen before."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from adnext_plugin.errors import AdnextError
from adnext_plugin.people import people_of, possible_names, same_people, spellings
from adnext_plugin.run_records import Corpus
from adnext_plugin.splits.design import PARTS, Fold
from adnext_plugin.splits.likeness import Pair, Resemblance


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked for: among what, and what was found, one line each; `leaks` stand in a fold's way.

    `remarks` are what else was found and harms no fold. `unknown` says what could not be looked up, "" where nothing
    is missing: without leaks the answer then is "not known", not "none".
    """

    name: str
    looked_at: str
    leaks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def answer(self) -> str:
        """FOUND, none, or not known."""
        return "FOUND" if self.leaks else "not known" if self.unknown else "none"


def check_ids(subjects: pd.DataFrame, splits: Sequence[Fold]) -> Check:
    """Look for people on both sides of a fold, also under ids that are spellings of one (ADNI, OASIS, IXI, BIDS)."""
    ids = subjects["subject_id"]
    people = people_of(ids)
    by_person = defaultdict(list)
    for case, subject_id in zip(subjects["case_id"], ids, strict=True):
        by_person[people[subject_id]].append(case)
    parted, together = _sort_groups([sorted(cases) for cases in by_person.values()], splits)
    id_of = dict(zip(subjects["case_id"], ids, strict=True))

    def line(cases: Sequence[str]) -> str:
        return f"{' and '.join(sorted({id_of[case] for case in cases}))} is one person"

    return Check(
        name="a person on both sides of a fold",
        looked_at=f"{len(subjects)} scans, {ids.nunique()} ids of {len(by_person)} people, {len(splits)} folds",
        leaks=tuple(f"{line(cases)}, {where}" for cases, where in parted),
        remarks=tuple(line(cases) for cases in together if len({id_of[case] for case in cases}) > 1),
    )


def check_files(subjects: pd.DataFrame, splits: Sequence[Fold]) -> Check:
    """Look for one image file under several subjects."""
    name = "one image file under two subjects"
    if "image_sha256" not in subjects:
        unknown = "subjects.csv has no column image_sha256"
        return Check(name=name, looked_at=f"nothing: {unknown}", unknown=unknown)
    known = subjects[subjects["image_sha256"].notna() & (subjects["image_sha256"].astype(str) != "")]
    groups = [group for _, group in known.groupby("image_sha256") if group["subject_id"].nunique() > 1]
    parted, together = _sort_groups([sorted(group["case_id"]) for group in groups], splits)
    return Check(
        name=name,
        looked_at=f"{len(known)} files",
        leaks=tuple(f"{', '.join(cases)} are one file, {where}" for cases, where in parted),
        remarks=tuple(f"{', '.join(cases)} are one file" for cases in together),
    )


def check_images(subjects: pd.DataFrame, resemblance: Resemblance, splits: Sequence[Fold]) -> Check:
    """Name the pairs of scans that look like one person's and have different ids.

    Args:
        subjects: content of `subjects.csv`.
        resemblance: found among the rows of `subjects`, in their order.
        splits: the folds.
    """
    cases = subjects["case_id"].to_numpy()
    alike = {tuple(sorted((cases[pair.first], cases[pair.second]))): pair for pair in resemblance.pairs}
    parted, together = _sort_groups(list(alike), splits)
    return Check(
        name="a brain under two subjects",
        looked_at=f"{len(subjects)} scans, alike from {resemblance.threshold:.2f} on, "
        f"most alike below it {resemblance.strangers[2]:.2f}",
        leaks=tuple(f"{_are_alike(pair, alike)}, {where}" for pair, where in parted),
        remarks=tuple(_are_alike(pair, alike) for pair in together),
    )


def check_corpus(
    held_out: pd.DataFrame,
    corpus: Corpus | None,
    digest_of: Callable[[str], str],
    key_digest: str,
    network: str,
    *,
    are_other_people: bool = False,
) -> Check:
    """Look for people whom a network has seen that is to judge them.

    Args:
        held_out: their rows of `subjects.csv`.
        corpus: whom it has seen, as its checkpoint says; None if it does not.
        digest_of: keyed digest of a name.
        key_digest: of the key of `digest_of`.
        network: what it is called.
        are_other_people: the user says that equal ids are those of different people; only images are compared.
    """
    name = f"a held-out person seen by {network}"
    if corpus is None:
        unknown = "it does not say whom it has seen"
        return Check(name=name, looked_at=f"nothing: {unknown}", unknown=unknown)
    if corpus.key_digest != key_digest:
        unknown = "its list was made with the key of another project"
        return Check(name=name, looked_at=f"nothing: {unknown}", unknown=unknown)
    unknown = "" if corpus.complete else "whom its first weights had seen"
    others = f", but not {unknown}, which is not known" if unknown else ""
    # lists of earlier versions have ids as they were written, not names of people
    people, images = {*corpus.subjects, *corpus.people}, set(corpus.images)
    seen = {
        subject_id: "id"
        for subject_id in sorted(set(() if are_other_people else held_out["subject_id"]))
        if any(digest_of(name) in people for name in possible_names(subject_id) | spellings(subject_id))
    }
    if "image_sha256" in held_out:
        for subject_id, digest in zip(held_out["subject_id"], held_out["image_sha256"].astype(str), strict=True):
            if digest and digest_of(digest) in images:
                seen.setdefault(subject_id, "image")
    return Check(
        name=name,
        looked_at=f"{corpus.subject_count} people of {', '.join(corpus.datasets)}{others}",
        leaks=tuple(f"{who} is held out and was seen by {network} (same {by})" for who, by in seen.items()),
        unknown=unknown,
    )


def together(checks: Sequence[Check]) -> Check:
    """Several lookups of one kind as one check."""
    return Check(
        name=checks[0].name,
        looked_at="; ".join(check.looked_at for check in checks),
        leaks=tuple(dict.fromkeys(line for check in checks for line in check.leaks)),
        remarks=tuple(line for check in checks for line in check.remarks),
        unknown=next((check.unknown for check in checks if check.unknown), ""),
    )


Learned = Mapping[str, float | np.ndarray]


def check_statistics(stored: Mapping[str, Learned], expected: Mapping[str, Learned]) -> Check:
    """Compare what runs keep as learned from their data, beside weights, with what the fold's training part gives.

    Args:
        stored: by name of a fold: numbers, as scales of target and covariates are, and arrays of fitted steps, by name.
        expected: the same, computed anew from the training part.
    """
    leaks, count = [], 0
    for fold, numbers in expected.items():
        for name, value in numbers.items():
            count += 1
            found = stored[fold].get(name)
            if np.ndim(value) > 0:
                leaks += [f"{fold}: {name} {difference}" for difference in _differences(found, value)]
            elif found is None or not np.isclose(found, value, rtol=1e-6, atol=1e-12):
                leaks.append(f"{fold}: {name} is {found} in the checkpoint, but {value} in the training part")
    looked_at = f"{count} numbers of {len(expected)} folds" if count else "nothing: these runs have no such numbers"
    return Check(name="statistics from outside the training part", looked_at=looked_at, leaks=tuple(leaks))


def _differences(found: float | np.ndarray | None, value: float | np.ndarray) -> list[str]:
    if found is None:
        return ["is missing in the run"]
    if np.shape(found) != np.shape(value):
        return [f"has shape {np.shape(found)}, but of the training part {np.shape(value)}"]
    most = float(np.abs(np.subtract(found, value, dtype=np.float64)).max())
    if np.allclose(found, value, rtol=1e-6, atol=1e-12):
        return []
    return [f"is not what the training part gives; its numbers differ by up to {most:.3g}"]


def refuse_same_people(own: pd.DataFrame, others: pd.DataFrame, *, are_other_people: bool = False) -> None:
    """Make sure that an external dataset is of other people, by image and by id, however that is spelt.

    Args:
        own, others: rows of the two datasets' `subjects.csv`.
        are_other_people: the user says that equal ids are those of different people; images are still compared.

    Raises:
        AdnextError: a scan or a person is in both.
    """
    remedy = "an external dataset must be of other people (adnext_import --where)"
    known = set(own.get("image_sha256", pd.Series(dtype=str)).dropna().astype(str)) - {""}
    same_scans = others[others.get("image_sha256", pd.Series("", index=others.index)).astype(str).isin(known)]
    if len(same_scans):
        raise AdnextError(
            f"{len(same_scans)} of {len(others)} cases, the first {same_scans['case_id'].iloc[0]!r}, show a scan that "
            f"the networks were trained on; {remedy}"
        )
    shared = {} if are_other_people else same_people(own["subject_id"], others["subject_id"])
    if shared:
        cases = others[others["subject_id"].isin(shared)]
        first = cases.iloc[0]
        raise AdnextError(
            f"{len(cases)} of {len(others)} cases, the first {first['case_id']!r}, show a subject that the networks "
            f"were trained on ({first['subject_id']!r} is {shared[first['subject_id']]!r}); {remedy}, or say why these "
            "are two people with one id: --other-people REASON"
        )


def _sort_groups(
    groups: Sequence[Sequence[str]], splits: Sequence[Fold]
) -> tuple[list[tuple[Sequence[str], str]], list[Sequence[str]]]:
    """Groups of cases that some fold puts on two sides, with where, and those that none does."""
    sides = [{case: part for part in PARTS for case in fold[part]} for fold in splits]
    parted, together = [], []
    for cases in groups:
        places = (
            f"in {side[first]} and {side[second]} of fold {number}"
            for number, side in enumerate(sides)
            for first, second in combinations(cases, 2)
            if side.get(first) != side.get(second) and first in side and second in side
        )
        where = next(places, None)
        if where is None:
            together.append(cases)
        else:
            parted.append((cases, where))
    return parted, together


def _are_alike(pair: Sequence[str], alike: Mapping[tuple[str, ...], Pair]) -> str:
    found = alike[tuple(pair)]
    how = (
        "look like one person, the one as a mirrored copy of the other" if found.is_mirrored else "look like one person"
    )
    return f"{pair[0]} and {pair[1]} {how} ({found.cosine:.2f})"
