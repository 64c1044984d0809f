"""What `adnext_explain` left of a run, as its report shows it."""

from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import AdnextError
from adnext_plugin.files import read_json
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.explain import REGIONS, SUMMARY
from adnext_plugin.workflows.explanation_files import EVERYBODY, group_file

if TYPE_CHECKING:
    from adnext_plugin.explanations.summary import ExplanationSummary
    from adnext_plugin.report.explained import ExplainedMethod, RegionLine
    from adnext_plugin.report.page import Viewer


def read_explanations(run: RunFolder) -> "list[ExplainedMethod]":
    """Everything there is in the run's own folder of explanations, a method each, in the order of their names.

    Raises:
        AdnextError: a file is damaged.
    """
    return [_read(path.parent) for path in sorted(run.explanations("").glob(f"*/{SUMMARY}"))]


def _read(folder: Path) -> "ExplainedMethod":
    from adnext_plugin.explanations.summary import ExplanationSummary
    from adnext_plugin.records import from_json
    from adnext_plugin.report.explained import ExplainedMethod

    path = folder / SUMMARY
    summary: ExplanationSummary = from_json(ExplanationSummary, read_json(path), str(path))
    regions, classes = _regions(folder) if summary.mni is not None else ([], ())
    viewers, missing = [], []
    for group, people in summary.groups.items():
        try:
            viewers.append(_viewer(folder, summary, group, people))
        except AdnextError as error:
            missing.append(f"No mean map of {group}: {error}")
    if summary.mni is None:
        missing.append("No mean maps and no regions: the maps did not come to MNI152 (adnext_explain --mni)")
    return ExplainedMethod(
        method=summary.method,
        target=summary.target,
        cases=summary.cases,
        people=summary.people,
        findings=summary.findings,
        failures=summary.failures,
        regions_name=summary.regions,
        regions=regions,
        classes=classes,
        viewers=tuple(viewers),
        missing=tuple(missing),
    )


def _viewer(folder: Path, summary: "ExplanationSummary", group: str, people: int) -> "Viewer":
    import numpy as np

    from adnext_plugin.explanations.strips import strips
    from adnext_plugin.images import read_volume
    from adnext_plugin.mni152 import mni152
    from adnext_plugin.report.page import Plane, Viewer

    template = mni152()
    map_zyx = read_volume(group_file(folder, group)).volume_zyx
    # everything above the mean size, so that what is weak is seen to be weak
    mask_zyx = template.brain_zyx & (np.abs(map_zyx) > 1)
    planes = tuple(
        Plane(name=one.plane, uri=one.uri, slices=one.slices, shown=one.shown, width=one.width, height=one.height)
        for one in strips(template.volume_zyx, map_zyx, mask_zyx)
    )
    who = "everybody" if group == EVERYBODY else f"those who are {group}"
    caption = (
        f"Mean map of {who}, {people} people, over MNI152; what is above the mean of the brain is coloured. Red speaks "
        f"for {summary.target}, blue against it. The patient's left is on the left, the front on top or on the right."
    )
    key = "-".join((summary.method.replace("_", "-"), str(list(summary.groups).index(group))))
    return Viewer(key=key, caption=caption, planes=planes)


def _regions(folder: Path) -> "tuple[list[RegionLine], tuple[str, ...]]":
    from adnext_plugin.csv_files import read_csv
    from adnext_plugin.report.explained import RegionLine

    texts = ["group", "region", "side"]
    numbers = ["share", "share_of_brain", "times_chance"]
    table = read_csv(
        folder / REGIONS, texts=texts, needed=texts, numbers=numbers, empty_is_missing=True, remedy="run adnext_explain"
    )
    by_group = {str(name): rows.set_index(["region", "side"]) for name, rows in table.groupby("group", sort=False)}
    everybody = by_group.pop(EVERYBODY)
    lines = [
        RegionLine(
            region=str(place[0]),
            side=str(place[1]),
            share=float(row["share"]),
            low=_known(row["share_low"]),
            high=_known(row["share_high"]),
            share_of_brain=float(row["share_of_brain"]),
            times_chance=float(row["times_chance"]),
            asymmetry=_known(row["asymmetry"]),
            by_class=tuple(float(rows.loc[place, "times_chance"]) for rows in by_group.values()),
        )
        for place, row in everybody.iterrows()
    ]
    return lines, tuple(by_group)


def _known(value: float) -> float | None:
    return None if value != value else float(value)
