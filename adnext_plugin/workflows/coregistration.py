"""Within an import: the further images of all cases are moved to their first, and a page shows how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import AdnextError, ImageError
from adnext_plugin.paths import raw_dir
from adnext_plugin.workflows.common import Tell

if TYPE_CHECKING:
    from adnext_plugin.importing.cases import Case
    from adnext_plugin.preprocessing.coregistration import Moved

CACHE = "coregistered"  # folder of nnUNet_raw that moved images are kept in, whatever dataset they are for
FOLDER, SHEET, TABLE = "coregistration", "coregistration.html", "coregistration.csv"


@dataclass(frozen=True, kw_only=True)
class CaseMove:
    """How one image of a case was moved to its first."""

    case_id: str
    channel: str
    first: Path
    moved: "Moved"


def coregister_cases(
    cases: "Sequence[Case]", channels: Sequence[str], processes: int, tell: Tell
) -> "tuple[tuple[Case, ...], list[CaseMove]]":
    """The cases with their further images moved to the first one's head, on its grid; and how each was moved.

    Raises:
        ImageError: some cannot be moved, one line each.
    """
    from adnext_plugin.parallel import for_each
    from adnext_plugin.preprocessing.coregistration import CoregistrationJob, coregister

    folder = raw_dir() / CACHE
    folder.mkdir(parents=True, exist_ok=True)
    places = [
        (number, place)
        for number, case in enumerate(cases)
        for place, image in enumerate(case.scan.further)
        if image is not None
    ]
    jobs = [
        CoregistrationJob(first=cases[number].scan.image, moving=moving, folder=folder)
        for number, place in places
        if (moving := cases[number].scan.further[place]) is not None
    ]
    outcomes = dict(for_each(coregister, jobs, processes=processes, description="Co-registration"))
    problems = [str(outcome) for _, outcome in sorted(outcomes.items()) if isinstance(outcome, AdnextError)]
    if problems:
        raise ImageError("\n".join(problems))
    found: Mapping[tuple[int, int], Moved] = {
        where: outcome for index, where in enumerate(places) if not isinstance(outcome := outcomes[index], AdnextError)
    }
    new = sum(one.is_new for one in found.values())
    tell(f"{len(found)} images moved to the first of their case, {len(found) - new} of them before")
    moved_cases = tuple(_with_moved(case, number, found) for number, case in enumerate(cases))
    moves = [
        CaseMove(
            case_id=cases[number].case_id,
            channel=channels[place + 1],
            first=cases[number].scan.image,
            moved=found[number, place],
        )
        for number, place in places
    ]
    return moved_cases, moves


def write_coregistration(moves: Sequence[CaseMove], dataset: Path) -> Path:
    """Write the table and the page into a raw dataset; return the page."""
    import pandas as pd

    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.quality.coregistration_sheet import Shown, write_sheet

    table = pd.DataFrame([{"case_id": one.case_id, "channel": one.channel, **asdict(one.moved.move)} for one in moves])
    write_csv(table, dataset / FOLDER / TABLE)
    shown = [Shown(first=one.first, moved=one.moved.image) for one in moves]
    return write_sheet(table, shown, dataset / FOLDER / SHEET, dataset.name)


def _with_moved(case: "Case", number: int, found: "Mapping[tuple[int, int], Moved]") -> "Case":
    further = tuple(
        found[number, place].image if (number, place) in found else image
        for place, image in enumerate(case.scan.further)
    )
    return replace(case, scan=replace(case.scan, further=further))
