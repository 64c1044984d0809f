"""How different the features of every layer are from one another, over the people whom networks never saw."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import SplitError, UnknownNameError, nearest_names
from adnext_plugin.files import replacing
from adnext_plugin.workflows.common import DatasetRequest, RunRequest, Tell, choose_device

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.explanations.layers import Layers
    from adnext_plugin.trainers.fold_data import FoldData

TABLE, SUMMARY, FIGURE = "cases.csv", "layers.csv", "diversity.png"


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, and of which of its held-out people: `cases`, or all where none is named; `output`: a folder."""

    cases: tuple[str, ...] = ()
    output: Path | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class OfCheckpoints(DatasetRequest):
    """Encoders that were pre-trained, or trained otherwise, on people of a preprocessed dataset whom they never saw.

    `checkpoints`: network, as `adnext_list networks` names it, and file of each. `cases`, `device`: as in `Request`.
    `other_people`: why ids that the weights have seen are those of different people. `output`: a folder.
    """

    checkpoints: tuple[tuple[str, Path], ...]
    output: Path
    cases: tuple[str, ...] = ()
    other_people: str | None = None
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

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.explanations.diversity import diversities
    from adnext_plugin.explanations.layers import Layers
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks
    from adnext_plugin.progress import progress_bar

    cohort = Cohort.open(request.dataset_folder)
    networks = HeldOutNetworks(request.run, cohort, choose_device(request.device))
    cases = networks.chosen(request.cases)
    tell(f"Feature diversity of {len(cases)} cases, each by the network that did not see it")
    rows = []
    blocks: dict[int, tuple[str, ...]] = {}  # of a fold's network
    with progress_bar(cases, desc="Features", unit="case") as shown:  # closed before an error is told
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
    folder = request.output or request.run.explanations("feature_diversity")
    return _written(pd.DataFrame(rows), folder)


def diversity_of_checkpoints(request: OfCheckpoints, tell: Tell) -> Result:
    """Measure every block of several encoders on the same people: whole scans, without augmentation.

    Raises:
        UnknownNameError: there is no such network or case.
        WeightsError: a file does not hold the encoder of its network.
        SplitError: one of the people was trained on.
        AdnextError: the dataset is not complete.
    """
    import numpy as np
    import pandas as pd

    from adnext_plugin.explanations.diversity import diversities
    from adnext_plugin.progress import progress_bar
    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(request.dataset_folder, request.plans, request.configuration)
    people = data.subjects.set_index("case_id")["subject_id"].astype(str)
    for case in request.cases:
        if case not in people.index:
            raise UnknownNameError(
                f"{data.dataset_folder.name} has no case {case!r}{nearest_names(case, people.index)}"
            )
    cases = list(dict.fromkeys(request.cases)) or people.index.tolist()
    store = data.store(cases)
    rows = []
    for name, path in request.checkpoints:
        layers = _layers_of(name, path, data, cases, request, tell)
        blocks = layers.spatial_blocks()
        label = f"{name}={path.parent.name}/{path.name}"
        with progress_bar(cases, desc=name, unit="case") as shown:
            for index, case in enumerate(shown):
                image = layers.explained.tensor(store[index].astype(np.float32))
                for (layer, axis), one in diversities(layers, image, blocks).items():
                    place = {"layer": layer, "depth": blocks.index(layer) / len(blocks), "axis": axis}
                    who = {"case_id": case, "subject_id": people[case]}
                    rows.append({"network": label, **who, **place, "distance": one.distance, "dead": one.dead})
    return _written(pd.DataFrame(rows), request.output)


def _layers_of(
    name: str, path: Path, data: "FoldData", cases: "list[str]", request: OfCheckpoints, tell: Tell
) -> "Layers":
    """The layers of an encoder with the weights of a file, behind which a head of no meaning answers."""
    import torch

    from adnext_plugin.explanations.layers import Layers
    from adnext_plugin.explanations.method import ExplainedNetwork
    from adnext_plugin.networks.build import build_network
    from adnext_plugin.plan import NetworkSettings
    from adnext_plugin.task import Task
    from adnext_plugin.training.precision import Arithmetic
    from adnext_plugin.training.weights import load_encoder
    from adnext_plugin.workflows.audit import check_weights

    rows = data.subjects[data.subjects["case_id"].isin(cases)]
    check = check_weights(path, rows, are_other_people=request.other_people is not None)
    if check.leaks:
        raise SplitError(f"{check.leaks[0]}; leave those people out with --cases, or say why they are others")
    size = data.plan.preprocessing.input_size_voxels
    torch.manual_seed(0)
    network = build_network(NetworkSettings(name=name), 1, 2, size)
    tell(f"{name}, weights from {path}: {load_encoder(network, path)}; {check.answer}")
    device = choose_device(request.device)
    task = Task(name="none", target="none", classes=("0", "1"))
    explained = ExplainedNetwork(
        network=network.to(device),
        task=task,
        image_shape=(1, *size),
        arithmetic=Arithmetic(precision="float32", device=torch.device(device)),
    )
    return Layers(explained)


def _written(table: "pd.DataFrame", folder: Path) -> Result:
    """Write both tables and the figure."""
    from adnext_plugin.csv_files import write_csv

    summary = _over_people(table)
    for frame, name in ((table, TABLE), (summary, SUMMARY)):
        write_csv(frame, folder / name)
    with replacing(folder / FIGURE) as temporary:
        _draw(summary, temporary)
    return Result(folder=folder, people=table["subject_id"].nunique(), layers=summary)


def _over_people(table: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and standard deviation over people; several scans of one are averaged first."""
    where = [name for name in ("network", "axis", "depth", "layer") if name in table]
    of_people = table.groupby([*where, "subject_id"])["distance"].mean()
    return of_people.groupby(where).agg(["mean", "std"]).reset_index()


def _draw(summary: "pd.DataFrame", path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    of_network = ["network", "axis"] if "network" in summary else ["axis"]
    for names, rows in summary.groupby(of_network):
        label = ", ".join([*names[:-1], f"between {names[-1]}s"])
        spread = rows["std"].fillna(0)
        axes.plot(rows["depth"], rows["mean"], marker="o", markersize=3, label=label)
        axes.fill_between(rows["depth"], rows["mean"] - spread, rows["mean"] + spread, alpha=0.2)
    axes.set(xlabel="depth in the network", ylabel="mean cosine distance (0.5: orthogonal)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, format="png", dpi=150)
