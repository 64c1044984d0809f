"""What `adnext_explain` works on: a request with everything looked up, so that what is wrong is said at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.files import read_json
from adnext_plugin.run_folder import RunFolder, seed_runs
from adnext_plugin.workflows.common import Tell, choose_device

if TYPE_CHECKING:
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.explanations.regions import Region
    from adnext_plugin.explanations.thresholds import ThresholdSettings
    from adnext_plugin.images import Volume
    from adnext_plugin.prediction.held_out_explanations import HeldOutExplanations
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks
    from adnext_plugin.prediction.in_template import Way
    from adnext_plugin.workflows.explain import Request

SETTINGS = "settings.json"
BUILT_IN = "the built-in regions"
NOT_ALIGNED = (
    "the scans were prepared without alignment to MNI152; give --mni register to align them now, or --mni scans if all "
    "of them lie in that space already"
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request with everything looked up."""

    request: "Request"
    cohort: "Cohort"
    networks: "HeldOutNetworks"
    held_out: "HeldOutExplanations"
    cases: tuple[str, ...]
    way: "Way | None"
    regions: "tuple[Region, ...]"
    truth: "Volume | None"
    threshold: "ThresholdSettings"
    folder: Path
    how: dict[str, Any]

    @property
    def classes(self) -> dict[str, str]:
        """What each case truly is; empty where there are no classes."""
        task = self.cohort.task
        if task.kind != "classification":
            return {}
        return dict(zip(self.cases, self.cohort.rows(self.cases)[task.target].astype(str), strict=True))

    @property
    def regions_name(self) -> str | None:
        """What the regions are called; None where maps do not come to MNI152."""
        if self.way is None:
            return None
        return BUILT_IN if self.request.atlas is None else self.request.atlas.name


def look_up(request: "Request", tell: Tell) -> Job:
    """Look up everything that a request names.

    Raises:
        AdnextError: as `explain`.
    """
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.explanations.method import load_explanation
    from adnext_plugin.explanations.regions import of_masks, read_atlas
    from adnext_plugin.explanations.thresholds import ThresholdSettings
    from adnext_plugin.images import read_volume
    from adnext_plugin.prediction.held_out_explanations import HeldOutExplanations
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks
    from adnext_plugin.preprocessing.anatomy.parcels import parcels
    from adnext_plugin.preprocessing.anatomy.template import GRID
    from adnext_plugin.records import from_json, to_json

    method = load_explanation(request.method, request.settings)
    threshold = from_json(ThresholdSettings, dict(request.threshold), "threshold")
    truth = None if request.truth is None else read_volume(request.truth)
    cohort = Cohort.open(request.dataset_folder)
    device = choose_device(request.device)
    networks = HeldOutNetworks(request.run, cohort, device)
    seeds = _other_seeds(request.run, cohort, device, tell) if request.checks else {}
    held_out = HeldOutExplanations(networks, method, request.target, seeds)
    cases = networks.chosen(request.cases)
    way = _way(request, networks, cases[0], tell)
    regions: tuple[Region, ...] = ()
    if way is not None:
        if request.atlas is not None and request.labels is not None:
            regions = read_atlas(request.atlas, request.labels)
        else:
            regions = of_masks(parcels(), GRID)
    folder = request.output or request.run.explanations(request.method)
    how = {
        "run": f"{cohort.name}/{request.run.path.name}",
        "method": request.method,
        "settings": to_json(method.settings),
        "threshold": to_json(threshold),
        "target": held_out.target_name,
    }
    _refuse_other_maps(folder, how)
    return Job(
        request=request,
        cohort=cohort,
        networks=networks,
        held_out=held_out,
        cases=cases,
        way=way,
        regions=regions,
        truth=truth,
        threshold=threshold,
        folder=folder,
        how=how,
    )


def _other_seeds(run: RunFolder, cohort: "Cohort", device: str, tell: Tell) -> "dict[int, HeldOutNetworks]":
    from adnext_plugin.prediction.held_out_networks import HeldOutNetworks

    found = {}
    for seed, other in seed_runs(run).items():
        try:
            found[seed] = HeldOutNetworks(other, cohort, device)
        except AdnextError as error:
            tell(f"Seed {seed} is left out: {error}")
    return found


def _way(request: "Request", networks: "HeldOutNetworks", case: str, tell: Tell) -> "Way | None":
    """How maps come to MNI152; None where they do not."""
    if request.mni == "none":
        return None
    if request.mni != "auto":
        return request.mni
    if networks.ask(case, networks.fold_of(case)).properties.scan_from_mni_mm is not None:
        return "aligned"
    if request.atlas is not None:
        raise SettingsError(f"--atlas: {NOT_ALIGNED}")
    tell(f"No group maps and no regions: {NOT_ALIGNED}")
    return None


def _refuse_other_maps(folder: Path, how: dict[str, Any]) -> None:
    """Maps that are made differently are not mixed in a folder."""
    path = folder / SETTINGS
    if path.is_file() and read_json(path) != how:
        raise PathsError(f"{folder} holds maps that were made otherwise ({SETTINGS}); remove it, or give another -o")
