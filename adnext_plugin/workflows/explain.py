"""Maps of what a run's networks look at in the people whom they never saw, and whether to believe the maps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.files import read_json, replacing, write_json
from adnext_plugin.workflows.common import RunRequest, Tell, choose_device

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from adnext_plugin.explanations.localisation import Localisation
    from adnext_plugin.explanations.thresholds import ThresholdSettings
    from adnext_plugin.images import Volume
    from adnext_plugin.prediction.held_out_explanations import Checks, ExplainedCase

TABLE, SETTINGS = "maps.csv", "settings.json"
MOST_ALIKE = 0.5  # rank correlation with the map of shuffled weights, from which a method is said to fail


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, whom of its held-out people, and how.

    `method` and `settings`: of an explanation, by name. `threshold`: fields of `ThresholdSettings`. `target`: class or
    quantity; None for the positive class, the last of several, or the quantity. `cases`: none for all. `checks`: of how
    many cases maps are checked. `truth`: NIfTI mask of the right regions, in the space of every scan. `output`: a
    folder; None for one below the run.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    threshold: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    cases: tuple[str, ...] = ()
    checks: int = 8
    truth: Path | None = None
    output: Path | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.checks < 0:
            raise SettingsError(f"--checks must be 0 or more, got {self.checks}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where maps are, of how many cases; `findings` say whether to believe them, a line each."""

    folder: Path
    table: Path
    cases: int
    findings: tuple[str, ...]


def explain(request: Request, tell: Tell) -> Result:
    """Write a map of every case, a picture and a row of a table, and check some of the maps.

    Raises:
        UnknownNameError: there is no such method, layer, target or case.
        SettingsError: settings do not fit, or the run holds nobody out.
        PathsError: the folder holds maps that were made otherwise.
        AdnextError: the run or its dataset is not complete any more.
    """
    import pandas as pd
    from tqdm import tqdm

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.explanations.method import load_explanation
    from adnext_plugin.explanations.thresholds import ThresholdSettings
    from adnext_plugin.images import read_volume
    from adnext_plugin.prediction.held_out_explanations import HeldOutExplanations
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks
    from adnext_plugin.records import from_json, to_json

    method = load_explanation(request.method, request.settings)
    threshold = from_json(ThresholdSettings, dict(request.threshold), "threshold")
    truth = None if request.truth is None else read_volume(request.truth)
    cohort = Cohort.open(request.dataset_folder)
    device = choose_device(request.device)
    networks = HeldOutNetworks(request.run, cohort, device)
    held_out = HeldOutExplanations(networks, method, request.target)
    cases = networks.chosen(request.cases)
    folder = request.output or request.run.explanations(request.method)
    how = {
        "run": f"{cohort.name}/{request.run.path.name}",
        "method": request.method,
        "settings": to_json(method.settings),
        "threshold": to_json(threshold),
        "target": held_out.target_name,
    }
    _refuse_other_maps(folder, how)
    tell(f"{request.method} of {held_out.target_name}: {len(cases)} cases, each by the network that did not see it")
    checked = _spread(cases, request.checks)
    rows: list[dict[str, Any]] = []
    with tqdm(cases, desc="Explaining", unit="case") as shown:  # closed before an error is told
        for case in shown:
            found = held_out.explain(case)
            if not rows:  # so that settings which do not fit the network leave nothing behind
                write_json(how, folder / SETTINGS)
            row = _write_case(found, threshold, folder)
            if truth is not None:
                row |= _localised(found, truth)
            if case in checked:
                row |= _numbers(held_out.check(found))
            rows.append(row)
    table = pd.DataFrame(rows)
    write_csv(table, folder / TABLE)
    return Result(
        folder=folder, table=folder / TABLE, cases=len(cases), findings=tuple(_findings(table, request.method))
    )


def _refuse_other_maps(folder: Path, how: dict[str, Any]) -> None:
    """Maps that are made differently are not mixed in a folder."""
    path = folder / SETTINGS
    if path.is_file() and read_json(path) != how:
        raise PathsError(f"{folder} holds maps that were made otherwise ({SETTINGS}); remove it, or give another -o")


def _spread(cases: Sequence[str], count: int) -> set[str]:
    """So many cases, spread evenly over the list and so over the folds."""
    count = min(count, len(cases))
    return {cases[index * len(cases) // count] for index in range(count)}


def _write_case(found: "ExplainedCase", threshold: "ThresholdSettings", folder: Path) -> dict[str, Any]:
    """Write the map, its mask and its picture; gives its row of the table."""
    import numpy as np

    from adnext_plugin.explanations.montage import montage
    from adnext_plugin.explanations.placement import over_scan, write_nifti
    from adnext_plugin.explanations.thresholds import stands_out

    mask_zyx = stands_out(found.map_zyx, found.brain_zyx, threshold)
    write_nifti(over_scan(found.map_zyx, found.affine, found.properties), folder / f"{found.case_id}.nii.gz")
    mask = over_scan(mask_zyx, found.affine, found.properties)
    inside = (mask.volume_zyx > 0.5).astype(np.uint8)
    write_nifti(type(mask)(volume_zyx=inside, affine=mask.affine), folder / f"{found.case_id}_mask.nii.gz")
    with replacing(folder / f"{found.case_id}.png") as temporary:
        temporary.write_bytes(montage(found.image_zyx, found.map_zyx, mask_zyx))
    in_brain = np.where(found.brain_zyx, found.map_zyx, -np.inf)
    z, y, x = np.unravel_index(int(in_brain.argmax()), in_brain.shape)
    peak_mm = found.affine @ [x, y, z, 1]
    return {
        "case_id": found.case_id,
        "subject_id": found.subject_id,
        "fold": found.fold,
        "score": found.score,
        **{f"peak_{axis}_mm": round(float(value), 1) for axis, value in zip("xyz", peak_mm[:3], strict=True)},
        "share_of_brain": float(mask_zyx.sum() / max(found.brain_zyx.sum(), 1)),
    }


def _localised(found: "ExplainedCase", truth: "Volume") -> dict[str, Any]:
    from adnext_plugin.explanations.localisation import localisation
    from adnext_plugin.explanations.placement import on_map

    result = localisation(found.map_zyx, on_map(truth, found.affine, found.map_zyx.shape), found.brain_zyx)
    return {} if result is None else _numbers(result)


def _numbers(found: "Checks | Localisation") -> dict[str, float]:
    """The fields as numbers; what is not known is not one."""
    return {name: float("nan" if value is None else value) for name, value in asdict(found).items()}


def _findings(table: "pd.DataFrame", method: str) -> list[str]:
    """Whether to believe the maps, in words; means over people."""
    numbers = table.drop(columns=["case_id", "fold"]).groupby("subject_id").mean()
    lines = []
    if "all_new" in numbers:
        lines += _of_checks(numbers.dropna(subset=["all_new"]), method)
    if "average_precision" in numbers:
        lines += _of_localisation(numbers.dropna(subset=["average_precision"]), method)
    return lines


def _of_checks(numbers: "pd.DataFrame", method: str) -> list[str]:
    means = numbers.mean()
    lines = [f"Checked in {len(numbers)} people; correlations are of ranks over the brain"]
    if means.notna().get("other_folds", False):
        lines.append(f"Maps by the networks of all folds agree with {means['other_folds']:.2f} (1: alike)")
    lines.append(
        f"Maps of shuffled weights are like these with {means['new_head']:.2f} (head), {means['all_new']:.2f} (all); "
        "0 where a map is of what was learned"
    )
    if means["all_new"] > MOST_ALIKE:
        lines.append(f"{method} FAILS here: its maps show the scans rather than what the networks have learned")
    lines.append(
        f"Mean score while voxels are taken out in the map's order {means['deletion']:.3f}, at random "
        f"{means['random_deletion']:.3f}; while they are put in {means['insertion']:.3f}, at random "
        f"{means['random_insertion']:.3f}"
    )
    if means["deletion"] >= means["random_deletion"] and means["insertion"] <= means["random_insertion"]:
        lines.append(f"{method} FAILS here: voxels that it ranks first count no more than any others")
    return lines


def _of_localisation(numbers: "pd.DataFrame", method: str) -> list[str]:
    above = numbers["average_precision"] - numbers["chance"]
    low, high = _interval(above.to_numpy())
    means = numbers.mean()
    lines = [
        f"True regions in {len(numbers)} people: average precision {means['average_precision']:.3f}, share of the map "
        f"{means['mass_share']:.3f}, peak inside {means['hit']:.0%}; chance is {means['chance']:.3f} of each",
        f"Average precision above chance: {above.mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f}",
    ]
    if not low > 0:
        lines.append(f"{method} FAILS here: it does not find the true regions more than chance would")
    return lines


def _interval(values: "np.ndarray") -> tuple[float, float]:
    """Of a mean over people, by Student's t; without bounds for one of them."""
    import numpy as np
    from scipy.stats import t

    if len(values) < 2:
        return -np.inf, np.inf
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half
