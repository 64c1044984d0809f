"""How much of a map lies in which region, and on which side."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from adnext_plugin.explanations.regions import Region
from adnext_plugin.mni152 import mni152

KEYS = ["region", "side"]


def relative(map_zyx: np.ndarray) -> np.ndarray:
    """A map over the template in units of its mean size in the brain, so that maps of several networks can be compared.

    0 outside of the brain; 0 everywhere of a map that is 0 in the brain.
    """
    brain_zyx = mni152().brain_zyx
    size = float(np.abs(map_zyx[brain_zyx]).mean())
    return np.where(brain_zyx, map_zyx / size, 0) if size > 0 else np.zeros_like(map_zyx)


def region_means(relative_zyx: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Mean of a map in each region, (R,), in units of the mean size of its values in the brain."""
    flat = relative_zyx.ravel()
    return np.array([flat[region.voxels].mean(dtype=np.float64) for region in regions])


def region_rows(relative_zyx: np.ndarray, regions: Sequence[Region]) -> pd.DataFrame:
    """A row per region.

    Columns: `share` of the sum of the map's sizes in the brain that lies in the region; `share_of_brain`, which it is
    of a map that is the same everywhere; `times_chance`, the one over the other; `mean` importance, as `region_means`.
    """
    brain_zyx = mni152().brain_zyx
    sizes = np.abs(relative_zyx.ravel())
    total, brain = float(sizes[brain_zyx.ravel()].sum(dtype=np.float64)), int(brain_zyx.sum())
    shares = np.array([sizes[region.voxels].sum(dtype=np.float64) for region in regions]) / (total or 1.0)
    of_brain = np.array([len(region.voxels) for region in regions]) / brain
    return pd.DataFrame(
        {
            "region": [region.name for region in regions],
            "side": [region.side for region in regions],
            "share": shares,
            "share_of_brain": of_brain,
            "times_chance": shares / of_brain,
            "mean": region_means(relative_zyx, regions),
        }
    )


def over_people(rows: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """Means over people, a row per group, region and side; several scans of a person are averaged first.

    Args:
        rows: those of all cases, with columns `case_id` and `subject_id`.
        groups: name by case. All people together are the group "all".

    Returns:
        Columns of `region_rows`, `people`, `share_low` and `share_high` (95 % interval over people, Student's t), and
        `asymmetry`: (left - right) / (left + right) of the shares of a region and its counterpart, mean over people.
    """
    grouped = [rows.assign(group="all")]
    by_group = rows.assign(group=rows["case_id"].map(dict(groups)))
    if by_group["group"].nunique() > 1:
        grouped.append(by_group)
    table = pd.concat(grouped)
    numbers = ["share", "share_of_brain", "times_chance", "mean"]
    people = table.groupby(["group", "subject_id", *KEYS], sort=False)[numbers].mean().reset_index()
    people = people.merge(_asymmetry(people), how="left", on=["group", "subject_id", "region"])
    found = people.groupby(["group", *KEYS], sort=False)
    means = found[[*numbers, "asymmetry"]].mean()
    half = _half_width(found["share"])
    means["people"] = found.size()
    means["share_low"], means["share_high"] = means["share"] - half, means["share"] + half
    order = ["group", *KEYS, "people", "share", "share_low", "share_high", *numbers[1:], "asymmetry"]
    return means.reset_index()[order]


def _asymmetry(people: pd.DataFrame) -> pd.DataFrame:
    sides = people.pivot_table(index=["group", "subject_id", "region"], columns="side", values="share", sort=False)
    sides = sides.reindex(columns=["left", "right"]).dropna()
    total = sides["left"] + sides["right"]
    return ((sides["left"] - sides["right"]) / total.where(total > 0)).rename("asymmetry").reset_index()


def _half_width(found: "pd.api.typing.SeriesGroupBy") -> pd.Series:
    """Of the 95 % interval of a mean; unknown of one person."""
    from scipy.stats import t

    count = found.size()
    return found.std(ddof=1) / np.sqrt(count) * t.ppf(0.975, (count - 1).clip(lower=1))
