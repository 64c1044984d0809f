"""How different the features of every layer are from one another, over the people whom networks never saw."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.files import replacing
from adnext_plugin.workflows.common import RunRequest, Tell, choose_device

if TYPE_CHECKING:
    import pandas as pd

TABLE, SUMMARY, FIGURE = "cases.csv", "layers.csv", "diversity.png"


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, and of which of its held-out people: `cases`, or all where none is named; `output`: a folder."""

    cases: tuple[str, ...] = ()
    output: Path | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Where the files are, of how many people; `layers` has mean and standard deviation by axis and layer."""

    folder: Path
    people: int
    layers: "pd.DataFrame"


def feature_diversity(request: Request, tell: Tell) -> Result:
    """Measure every block of the networks on people whom they never saw, as Figure 4 of AD-NeXt does.

    Raises:
        UnknownNameError: there is no such case.
        SettingsError: the run holds nobody out, or a block of its network tells no places apart.
        AdnextError: the run or its dataset is not complete any more.
    """
    import pandas as pd
    from tqdm import tqdm

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.explanations.diversity import diversities
    from adnext_plugin.explanations.layers import Layers
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks

    cohort = Cohort.open(request.dataset_folder)
    networks = HeldOutNetworks(request.run, cohort, choose_device(request.device))
    cases = networks.chosen(request.cases)
    tell(f"Feature diversity of {len(cases)} cases, each by the network that did not see it")
    rows = []
    blocks: dict[int, tuple[str, ...]] = {}  # of a fold's network
    with tqdm(cases, desc="Features", unit="case") as shown:  # closed before an error is told
        for case in shown:
            fold = networks.fold_of(case)
            asked = networks.ask(case, fold)
            layers = Layers(asked.network)
            if fold not in blocks:
                blocks[fold] = layers.spatial_blocks()
            names = blocks[fold]
            found = diversities(layers, asked.network.tensor(asked.image_czyx), names)
            for (name, axis), one in found.items():
                place = {"layer": name, "depth": names.index(name) / len(names), "axis": axis}
                who = {"case_id": case, "subject_id": networks.subject_of(case), "fold": fold}
                rows.append({**who, **place, "distance": one.distance, "dead": one.dead})
    table = pd.DataFrame(rows)
    summary = _over_people(table)
    folder = request.output or request.run.explanations("feature_diversity")
    for frame, name in ((table, TABLE), (summary, SUMMARY)):
        write_csv(frame, folder / name)
    with replacing(folder / FIGURE) as temporary:
        _draw(summary, temporary)
    return Result(folder=folder, people=table["subject_id"].nunique(), layers=summary)


def _over_people(table: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and standard deviation over people; several scans of one are averaged first."""
    where = ["axis", "depth", "layer"]
    of_people = table.groupby([*where, "subject_id"])["distance"].mean()
    return of_people.groupby(where).agg(["mean", "std"]).reset_index()


def _draw(summary: "pd.DataFrame", path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for axis, rows in summary.groupby("axis"):
        spread = rows["std"].fillna(0)
        axes.plot(rows["depth"], rows["mean"], marker="o", markersize=3, label=f"between {axis}s")
        axes.fill_between(rows["depth"], rows["mean"] - spread, rows["mean"] + spread, alpha=0.2)
    axes.set(xlabel="depth in the network", ylabel="mean cosine distance (0.5: orthogonal)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, format="png", dpi=150)
