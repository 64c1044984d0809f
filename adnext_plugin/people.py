"""When two spellings of an id mean the same person. One answer for joins, folds, first weights and external datasets.

Studies, converters and spreadsheets write one id in several ways: `123_S_4567`, `sub-ADNI123S4567` and `4567`;
`OAS1_0061` and `OAS1_0061_MR2`; `sub-01`, `01` and `1`; `P001` and `p001`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a study writes ids: a pattern for the whole id, and the person's name in it."""

    pattern: re.Pattern[str]
    person: Callable[[re.Match[str]], str]


def _style(pattern: str, person: Callable[[re.Match[str]], str]) -> Style:
    return Style(pattern=re.compile(pattern, re.IGNORECASE | re.ASCII), person=person)


# Sessions and repeats behind the person's number are left out of the name
STYLES = (
    # ADNI: PTID 123_S_4567, whose last number is the RID; BIDS writes it sub-ADNI123S4567
    _style(r"(?:ADNI)?[_-]?\d{3}[_-]?S[_-]?(\d{4,5})(?:[_-].*)?", lambda match: f"adni:{int(match[1])}"),
    # OASIS-1 and -2: OAS1_0061 with sessions OAS1_0061_MR1, in Clinica's trees sub-OASIS10061
    _style(r"OAS(?:IS)?([12])[_-]?(\d{4})(?:[_-].*)?", lambda match: f"oasis{match[1]}:{int(match[2])}"),
    # OASIS-3 and -4: OAS30061 with OAS30061_MR_d0129
    _style(r"OAS([34])(\d{4})(?:[_-].*)?", lambda match: f"oasis{match[1]}:{int(match[2])}"),
    # IXI: IXI002-Guys-0828-T1
    _style(r"IXI(\d{3})(?:[_-].*)?", lambda match: f"ixi:{int(match[1])}"),
)
SESSION = re.compile(r"_ses-[a-z0-9]+.*$", re.IGNORECASE | re.ASCII)  # as BIDS has it
# spreadsheets drop the zeros in front of an id that is all digits, and pandas adds ".0" where a cell is empty
NUMBER = re.compile(r"0*(\d+)(?:\.0+)?", re.ASCII)


def person_of(subject_id: str) -> str:
    """The name of the person behind an id; equal names mean that two ids are spellings of one.

    Case, blanks and punctuation do not count, but for what stands between two digits: `P-1` is `P1`, and `1-11` is not
    `11-1`.
    """
    text = unicodedata.normalize("NFC", subject_id.strip())
    bare = re.sub(r"^sub-", "", text, flags=re.IGNORECASE)
    for style in STYLES:
        if match := style.pattern.fullmatch(bare):
            return style.person(match)
    bare = SESSION.sub("", bare)
    if match := NUMBER.fullmatch(bare):
        return f"number:{match[1]}"
    return f"name:{_without_punctuation(bare.casefold()) or bare.casefold()}"


def people_of(subject_ids: Iterable[str]) -> dict[str, str]:
    """The person behind each id of a dataset, as `person_of` names them.

    A bare number is taken for an ADNI RID where other ids of the same dataset are ADNI's.
    """
    names = {subject_id: person_of(subject_id) for subject_id in set(subject_ids)}
    if any(name.startswith("adni:") for name in names.values()):
        names = {subject_id: re.sub(r"^number:", "adni:", name) for subject_id, name in names.items()}
    return names


def possible_names(subject_id: str) -> set[str]:
    """All names that the person behind an id may have in a dataset that can only be asked for a name.

    A number may be an RID of ADNI there, and an RID a number.
    """
    name = person_of(subject_id)
    kind, _, rest = name.partition(":")
    return {f"number:{rest}", f"adni:{rest}"} if kind in ("number", "adni") else {name}


def same_people(own: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """The ids of one dataset that are people of another.

    Args:
        own, others: subject ids of the two.

    Returns:
        Each such id of `others`, in their order, and an id of that person in `own`.
    """
    own, others = list(own), list(others)
    names: Mapping[str, str] = people_of([*own, *others])
    first: dict[str, str] = {}
    for subject_id in own:
        first.setdefault(names[subject_id], subject_id)
    return {subject_id: first[names[subject_id]] for subject_id in others if names[subject_id] in first}


def spellings(subject_id: str) -> set[str]:
    """Ways to write an id, for lists of earlier versions that only tell whether a given spelling is in them."""
    bare = re.sub(r"^sub-", "", subject_id)
    found = {subject_id, bare, f"sub-{bare}"}
    ptid = re.fullmatch(r"(?:ADNI)?(\d{3})_?S_?(\d{4,5})", bare, re.IGNORECASE)
    if ptid:
        site, rid = ptid.groups()
        forms = {f"{site}_S_{rid}", f"{site}S{rid}", f"ADNI{site}S{rid}", rid, str(int(rid))}
        found |= forms | {f"sub-{form}" for form in forms}
    oasis = re.fullmatch(r"(OAS[12])_?(\d{4})(?:_MR\d+)?", bare, re.IGNORECASE)
    if oasis:
        study, number = oasis.groups()
        forms = {f"{study}_{number}", f"{study}{number}", f"{study}_{number}_MR1", f"{study}_{number}_MR2"}
        found |= forms | {f"sub-{form}" for form in forms}
    return found


def _without_punctuation(text: str) -> str:
    """Letters, digits and marks of any script; one hyphen for what stands between two digits."""
    parts = [("".join(part), is_kept) for part, is_kept in _runs(text)]
    kept = ""
    for index, (part, is_kept) in enumerate(parts):
        if is_kept:
            kept += part
        elif 0 < index < len(parts) - 1 and parts[index - 1][0][-1].isdigit() and parts[index + 1][0][0].isdigit():
            kept += "-"
    return kept


def _runs(text: str) -> list[tuple[list[str], bool]]:
    runs: list[tuple[list[str], bool]] = []
    for character in text:
        is_kept = unicodedata.category(character)[0] in "LMN"  # vowel signs of many scripts are marks
        if runs and runs[-1][1] == is_kept:
            runs[-1][0].append(character)
        else:
            runs.append(([character], is_kept))
    return runs
