"""One answer to "is this the same person?", whoever asks: joins, folds, first weights, external datasets."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from adnext_plugin.errors import AdnextError
from adnext_plugin.people import people_of, person_of, same_people
from adnext_plugin.project_key import digests, project_key
from adnext_plugin.run_records import Corpus
from adnext_plugin.splits.audit import check_corpus, check_ids, refuse_same_people
from adnext_plugin.stamps import OTHER_PEOPLE, without_reasons
from adnext_plugin.training.corpus import describe_corpus

SAME = [
    ("OAS1_0061", "OAS1_0061_MR2"),
    ("OAS1_0001", "sub-OASIS10001"),
    ("123_S_4567", "sub-ADNI123S4567"),
    ("123_S_4567", "4567"),
    ("123-s-4567", "123_S_4567"),
    ("sub-01", "01"),
    ("OAS30001", "OAS30001_MR_d0129"),
    ("IXI002", "IXI002-Guys-0828-T1"),
    ("001", "1"),
    ("1.0", "01"),
    ("p001", "P001"),
    ("sub-HC01_ses-2", "hc01"),
    ("P-001", "sub-P001"),
    ("Mu\u0308ller", "m\u00fcller"),
]
DIFFERENT = [
    ("1-11", "11-1"),
    ("1_101", "11_01"),
    ("A1-12", "A11-2"),
    ("1-11", "111"),
    ("1.1", "11"),
    ("OAS1_0061", "OAS2_0061"),
    ("OAS30001", "OAS30010"),
    ("IXI002", "2"),
    ("123_S_4567", "123_S_4568"),
    ("p001", "p1"),
    ("01", "10"),
    ("sub-01", "sub-011"),
    ("\u674e", "\u91cc"),
    ("-", "_"),
]


@pytest.mark.parametrize(
    "one_person",
    [
        ("123_S_4567", "sub-ADNI123S4567", "4567", "ADNI_123_S_4567", "04567", "sub-4567"),
        ("011_S_0002", "2", "sub-ADNI011S0002"),
        ("OAS1_0061_MR1", "OAS1_0061_MR2", "OAS1_0061", "sub-OAS10061"),
        ("OAS30001", "sub-OAS30001", "OAS30001_MR_d0129"),
        ("IXI002-Guys-0828-T1", "IXI002"),
        ("sub-HC01", "hc01", "sub-HC01_ses-2"),
    ],
)
def test_spellings_of_an_id_are_one_person_and_others_are_not(one_person: tuple[str, ...]) -> None:
    others = ("123_S_4568", "OAS1_0062_MR1", "OAS2_0061_MR1", "OAS30002", "IXI003", "sub-HC02", "4569")
    found = people_of([*one_person, *others])
    assert len({found[name] for name in one_person}) == 1
    assert len(set(found.values())) == 1 + len(others)


def test_a_number_is_not_an_adni_rid_where_there_is_no_adni() -> None:
    assert len(set(people_of(["OAS1_0061", "61", "IXI061"]).values())) == 3


@pytest.mark.parametrize(("one", "other"), SAME)
def test_joins_folds_first_weights_and_external_datasets_know_a_person_again(one: str, other: str, tmp_path) -> None:
    assert people_of([one, other])[one] == people_of([one, other])[other]
    assert _answers(one, other, tmp_path) == {True} == _answers(other, one, tmp_path)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_joins_folds_first_weights_and_external_datasets_keep_strangers_apart(one: str, other: str, tmp_path) -> None:
    assert person_of(one) != person_of(other)
    assert _answers(one, other, tmp_path) == {False} == _answers(other, one, tmp_path)


def _subjects(*ids: str) -> pd.DataFrame:
    names = [f"c{index}" for index in range(len(ids))]
    return pd.DataFrame({"case_id": names, "subject_id": ids, "image_sha256": [f"{name} {ids}" for name in names]})


def _answers(one: str, other: str, folder: Path) -> set[bool]:
    """Whether two ids are one person, for all who ask."""
    fold = {"train": ["c0"], "selection": [], "val": ["c1"]}
    corpus, key = describe_corpus(_subjects(one), "Dataset001_Corpus", folder), project_key(folder)
    seen = check_corpus(_subjects(other), corpus, lambda name: digests([name], key)[0], corpus.key_digest, "weights")
    try:
        refuse_same_people(_subjects(one), _subjects(other))
        is_refused = False
    except AdnextError:
        is_refused = True
    return {bool(check_ids(_subjects(one, other), [fold]).leaks), bool(seen.leaks), is_refused}


def test_two_sites_that_both_number_sub_01_pass_when_the_user_says_that_they_are_other_people() -> None:
    own, others = _subjects("sub-01", "sub-02"), _subjects("01", "sub-7", "x")
    assert same_people(own["subject_id"], others["subject_id"]) == {"01": "sub-01"}
    with pytest.raises(AdnextError, match=r"1 of 3 cases, the first 'c0'.*'01' is 'sub-01'.*--other-people REASON"):
        refuse_same_people(own, others)
    refuse_same_people(own, others, are_other_people=True)
    with pytest.raises(AdnextError, match="show a scan"):  # no reason makes an image another one
        refuse_same_people(own, own, are_other_people=True)
    assert without_reasons([f"{OTHER_PEOPLE}: Dr. X's patients"]) == (OTHER_PEOPLE,)


def test_weights_that_do_not_say_whom_they_have_seen_are_not_known_to_be_clean(tmp_path) -> None:
    corpus, held_out = describe_corpus(_subjects("a"), "Dataset001_Corpus", tmp_path), _subjects("b")

    def answer(block: Corpus | None, key_digest: str) -> str:
        return check_corpus(held_out, block, lambda name: name, key_digest, "weights").answer

    assert answer(corpus, corpus.key_digest) == "none"
    assert answer(None, "") == "not known"
    assert answer(corpus, "of another project") == "not known"
    assert answer(replace(corpus, complete=False), corpus.key_digest) == "not known"


def test_lists_of_earlier_versions_with_ids_as_they_were_written_still_serve(tmp_path) -> None:
    corpus, key = describe_corpus(_subjects("123_S_4567"), "Dataset001_Corpus", tmp_path), project_key(tmp_path)
    corpus = replace(corpus, people=())
    found = check_corpus(
        _subjects("sub-ADNI123S4567"), corpus, lambda name: digests([name], key)[0], corpus.key_digest, "weights"
    )
    assert found.answer == "FOUND"
