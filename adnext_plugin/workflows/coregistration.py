"""Within an import: the further images of all cases are moved to their first, and a page shows how."""

from collections.abc import Sequence
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
    jobs = [
        CoregistrationJob(first=case.scan.image, moving=tuple(filter(None, case.scan.further)), folder=folder)
        for case in cases
    ]
    outcomes = dict(for_each(coregister, jobs, processes=processes, description="Co-registration"))
    problems = [str(outcome) for _, outcome in sorted(outcomes.items()) if isinstance(outcome, AdnextError)]
    if problems:
        raise ImageError("\n".join(problems))
    found = {number: iter(moved) for number, moved in outcomes.items() if not isinstance(moved, AdnextError)}
    moved_cases, moves = [], []
    for number, case in enumerate(cases):
        further = [None if image is None else next(found[number]) for image in case.scan.further]
        images = tuple(None if moved is None else moved.image for moved in further)
        moved_cases.append(replace(case, scan=replace(case.scan, further=images)))
        moves += [
            CaseMove(case_id=case.case_id, channel=channel, moved=moved)
            for channel, moved in zip(channels[1:], further, strict=True)
            if moved is not None
        ]
    new = sum(one.moved.is_new for one in moves)
    tell(f"{len(moves)} images moved to the first of their case, {len(moves) - new} of them before")
    return tuple(moved_cases), moves


def write_coregistration(moves: Sequence[CaseMove], dataset: Path) -> Path:
    """Write the table and the page into a raw dataset; return the page."""
    import pandas as pd

    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.quality.picture_sheet import write_sheet

    table = pd.DataFrame([{"case_id": one.case_id, "channel": one.channel, **asdict(one.moved.move)} for one in moves])
    write_csv(table, dataset / FOLDER / TABLE)
    pictures = [one.moved.picture for one in moves]
    return write_sheet("coregistration.html.j2", table, pictures, dataset / FOLDER / SHEET, dataset=dataset.name)
