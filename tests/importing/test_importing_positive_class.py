"""Which of two classes is the positive one."""

import pytest

from adnext_plugin.errors import TableError
from adnext_plugin.importing.positive_class import in_order

PAIRS = [
    ("CN", "AD"),
    ("HC", "AD"),
    ("NC", "MCI"),
    ("cognitively normal", "Dementia"),
    ("control", "patient"),
    ("Healthy Controls", "Cases"),
    ("0", "1"),
    ("-1", "1"),
    ("no", "yes"),
    ("False", "True"),
    ("MCI", "AD"),
    ("EMCI", "LMCI"),
    ("sMCI", "pMCI"),
    ("stable", "converter"),
    ("Nondemented", "Demented"),
    ("normal", "abnormal"),
    ("CN", "frontotemporal dementia"),
    ("F", "M"),
    ("young", "old"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_known_pairs_have_the_disease_last_whatever_order_they_come_in(pair: tuple[str, str]) -> None:
    assert in_order(pair, "group") == in_order(pair[::-1], "group") == pair


@pytest.mark.parametrize("pair", [("A", "B"), ("1", "2"), ("AD", "FTD"), ("CN", "HC"), ("site1", "site2")])
def test_unknown_pairs_are_asked_about_until_the_positive_class_is_named(pair: tuple[str, str]) -> None:
    with pytest.raises(TableError, match=f"--positive '{pair[1]}'"):
        in_order(pair, "group")
    for positive, other in (pair, pair[::-1]):
        assert in_order(pair, "group", positive) == (other, positive)


def test_a_named_class_goes_before_what_is_known() -> None:
    assert in_order(("CN", "AD"), "group", "CN") == ("AD", "CN")
    with pytest.raises(TableError, match=r"--positive 'AC' is no class of group; (known: AD, CN|did you mean 'A)"):
        in_order(("CN", "AD"), "group", "AC")
    with pytest.raises(TableError, match="gives 3"):
        in_order(("CN", "MCI", "AD"), "group", "AD")
    assert in_order(("AD", "CN", "MCI"), "group") == ("AD", "CN", "MCI")
