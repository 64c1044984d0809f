"""Names from several packages: found, suggested, refused where two claim one, left out where an import fails."""

import sys

import pytest

from adnext_plugin.cli import list_names
from adnext_plugin.errors import AdnextWarning, RegistryError, UnknownNameError
from adnext_plugin.registry import GROUPS, NETWORKS, STEPS, TRAINERS, brought_by, load, load_all, registered_names

GROUP = "adnext.tests"


def test_names_of_every_package_are_listed_without_importing_any(install) -> None:
    install("pack_one", "raise SystemExit", {GROUP: {"zeta": "z", "alpha": "a"}})
    install("pack_two", "raise SystemExit", {GROUP: {"mid": "m"}, "adnext.others": {"far": "f"}})
    assert registered_names(GROUP) == ["alpha", "mid", "zeta"]
    assert brought_by(GROUP, "mid") == ("pack_two",) and brought_by(GROUP, "far") == ()
    assert not {"pack_one", "pack_two"} & set(sys.modules)


def test_what_is_registered_is_loaded_by_name(install) -> None:
    install("pack_one", "seven, eight = 7, 8", {GROUP: {"seven": "seven", "other": "eight"}})
    assert load(GROUP, "other") == 8
    assert load_all(GROUP) == {"other": 8, "seven": 7}


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        (GROUP, "sevn", "no test 'sevn'; did you mean 'seven'?"),
        (GROUP, "quite else", "no test 'quite else'; known: seven"),
        (NETWORKS, "adnxt_t", "no network 'adnxt_t'; did you mean 'adnext_t'?"),
        (TRAINERS, "ADNeXtTrainer_t", "no trainer 'ADNeXtTrainer_t'; did you mean 'ADNeXtTrainer_T'?"),
        ("adnext.empty", "x", "no empty 'x'; known: none"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(install, group: str, name: str, message: str) -> None:
    install("pack_one", "seven = 7", {GROUP: {"seven": "seven"}})
    with pytest.raises(UnknownNameError) as error:
        load(group, name)
    assert message in str(error.value)


def test_a_name_that_two_packages_claim_is_refused_and_both_are_named(install) -> None:
    install("pack_one", "a = 1", {GROUP: {"a": "a", "b": "a"}})
    install("pack_two", "a = 2", {GROUP: {"a": "a"}})
    assert load(GROUP, "b") == 1
    for use in (lambda: load(GROUP, "a"), lambda: load_all(GROUP)):
        with pytest.raises(RegistryError) as error:
            use()
        assert "test 'a' is declared by pack_one (pack_one:a) and pack_two (pack_two:a); uninstall" in str(error.value)
    assert brought_by(GROUP, "a") == ("pack_one", "pack_two")


def test_a_built_in_name_cannot_be_taken_over_not_even_by_an_earlier_folder_of_the_path(install, toy, capsys) -> None:
    install("greedy", "class ADNeXtTrainer_T: pass", {TRAINERS: {"ADNeXtTrainer_T": "ADNeXtTrainer_T"}})
    with pytest.raises(RegistryError, match=r"declared by adnext_plugin .* and greedy"):
        load(TRAINERS, "ADNeXtTrainer_T")
    from adnext_plugin.cli import train

    assert train.main(["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "adnext_plugin" in lines[0] and "greedy" in lines[0]
    assert load(TRAINERS, "ADNeXtTrainer_S").__name__ == "ADNeXtTrainer_S"


BROKEN = {
    "import missing_thing": "ModuleNotFoundError: No module named 'missing_thing'",
    "1 / 0": "ZeroDivisionError: division by zero",
    "good = 1": "AttributeError: module 'broken' has no attribute 'thing'",
    "raise ValueError('two\\nlines')": "ValueError: two lines",
    "def (": "SyntaxError: ",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_package_costs_a_warning_that_names_it(install, code: str) -> None:
    install("broken", code, {GROUP: {"thing": "thing"}})
    install("sound", "a = 1", {GROUP: {"a": "a"}})
    with pytest.warns(AdnextWarning) as warned:
        assert load_all(GROUP) == {"a": 1}
    (message,) = [str(warning.message) for warning in warned]
    assert message.startswith("test 'thing' of the package broken cannot be imported from broken:thing (")
    assert BROKEN[code] in message and "\n" not in message
    with pytest.raises(RegistryError, match="package broken"):
        load(GROUP, "thing")


def test_a_module_where_an_object_belongs_is_refused(install) -> None:
    install("pack_one", "a = 1", {GROUP: {"whole": "pack_one"}})
    with pytest.raises(RegistryError, match="declare it as pack_one:OBJECT"):
        load(GROUP, "whole")


def test_everything_of_ours_can_be_loaded_and_says_what_it_is() -> None:
    for group in GROUPS:
        for name, found in load_all(group).items():
            assert brought_by(group, name) == ("adnext_plugin",)
            assert list_names.what_it_is(found), f"{group} {name}"


def test_a_list_has_a_line_for_each_match_and_one_for_each_broken_package(install, capsys) -> None:
    install("broken", "import missing_thing", {NETWORKS: {"adnext_z": "net"}})
    assert list_names.main(["networks", "ADNEXT_?"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["adnext_b", "adnext_l", "adnext_s", "adnext_t"]
    assert all(line.endswith("  adnext_plugin") for line in printed.out.splitlines())
    (warning,) = printed.err.strip().splitlines()
    assert warning.startswith("warning: network 'adnext_z' of the package broken cannot be imported")


def test_a_list_of_what_is_not_there_suggests_the_nearest_name(install, capsys) -> None:
    assert list_names.main(["networks", "resnt34"]) == 2
    assert "no network matches 'resnt34'; did you mean 'resnet34'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        list_names.main(["networx"])
    install("pack_one", "def smooth():\n    'Blurs a scan.'", {STEPS: {"smooth_of_pack_one": "smooth"}})
    assert list_names.main(["steps", "of_pack"]) == 0
    assert "smooth_of_pack_one  Blurs a scan.  pack_one" in capsys.readouterr().out
