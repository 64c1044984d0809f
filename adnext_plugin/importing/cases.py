"""The cases of a dataset: scans with their names, targets and covariates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adnext_plugin.errors import TableError
from adnext_plugin.importing.case_names import case_ids
from adnext_plugin.importing.covariates import Covariates
from adnext_plugin.importing.people.identities import session_key
from adnext_plugin.importing.scans import Scan
from adnext_plugin.people import people_of, person_of


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case to be: its scan, its name, its person, its target and covariates as they will stand in subjects.csv.

    `subject_id` differs from the scan's where that person has another id in another cohort.
    """

    case_id: str
    scan: Scan
    subject_id: str
    target: str | float | None
    covariates: dict[str, str | float]


def make_cases(
    labelled: Sequence[tuple[Scan, str | float | None]],
    covariates: Covariates,
    same_people: Mapping[str, str],
) -> tuple[Case, ...]:
    """Name the cases and collect their covariates.

    Args:
        labelled: scans with their targets.
        covariates: reads those of a scan.
        same_people: `person_of` of an id to the id to use for that person.

    Raises:
        TableError: a covariate makes no sense, or two scans would have one name.
    """
    names = case_ids([scan for scan, _ in labelled])
    cases = tuple(
        Case(
            case_id=name,
            scan=scan,
            subject_id=same_people.get(person_of(scan.subject_id), scan.subject_id),
            target=target,
            covariates=covariates.of(scan),
        )
        for name, (scan, target) in zip(names, labelled, strict=True)
    )
    _refuse_doubles(cases)
    return cases


def refuse_two_ids(cases: Sequence[Case]) -> None:
    """Refuse one person under two ids, who might come to lie on both sides of a fold.

    Raises:
        TableError: two ids are spellings of one.
    """
    people = people_of(case.subject_id for case in cases)
    first: dict[str, str] = {}
    for case in cases:
        earlier = first.setdefault(people[case.subject_id], case.subject_id)
        if earlier != case.subject_id:
            raise TableError(
                f"{earlier} and {case.subject_id} are two spellings of one person's id, who might come to lie on both "
                f"sides of a fold; write one of them everywhere, or join them by a row {earlier},{case.subject_id} in "
                "a table for --extra-ids; if they are two people, rename one"
            )


def _refuse_doubles(cases: Sequence[Case]) -> None:
    first_by_name: dict[str, Case] = {}
    first_by_session: dict[tuple[str, str], Case] = {}
    for case in cases:
        session = (case.scan.subject_id, session_key(case.scan.session_id))
        # file systems of some users do not tell upper from lower case
        for earlier in (
            first_by_name.setdefault(case.case_id.lower(), case),
            first_by_session.setdefault(session, case),
        ):
            if earlier is not case:
                raise TableError(
                    f"two scans would become case {case.case_id}: {earlier.scan.image} and {case.scan.image}; give "
                    "each its own session (--session-column), or leave one out"
                )
