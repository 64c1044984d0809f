"""Which cases of a cohort stand out, and why. Needs no example of a bad one: each case is compared with the others.

A number's distance from the cohort's median, in robust standard deviations (interquartile range / 1.349), counts from 3
on; the sum over numbers orders the cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import pandas as pd
from scipy import ndimage

from adnext_plugin.quality.measurements import Measurements

COUNTS_FROM, COUNTS_TO = 3.0, 13.0  # robust standard deviations; beyond, a case is as suspicious as it can be
CERTAIN = COUNTS_TO - COUNTS_FROM  # weight of what needs no statistics
SAME_SCAN, SAME_PERSON = 0.9999, 0.97  # correlations of coarse volumes
FLIP_GAIN = 0.1  # correlation with the mean that another order or direction of the axes has to gain
BLOCK = 512  # cases compared with all others at once

# reasons are joined by JOINT, which none of them has in it
JOINT = "; "
HEAD = "a head among brains: there is a scalp, or more than a brain can be, so extract the brain"
FLIPPED = "its axes look exchanged or flipped, as by a wrong header"
SAME = "the same scan as "
ALIKE = "as like "
LEFT_TO_RIGHT = ((0, 1, 2), (1, 1, -1))  # a mirror image of a brain is as like the mean as the brain


@dataclass(frozen=True)
class _Number:
    """A column, how to word it as a reason and its kind, which side is suspicious, and how much it counts."""

    column: str
    kind: str
    reason: str
    side: str
    weight: float = 1.0


OF_WARP = (
    _Number(
        "likeness_after_warp",
        "unlike the template",
        "unlike the template after its warp ({value:.2f}, median {median:.2f})",
        "low",
    ),
    _Number(
        "volume_change_low", "shrunk by its warp", "its warp shrinks places to {value:.2f} (median {median:.2f})", "low"
    ),
    _Number(
        "volume_change_high",
        "swollen by its warp",
        "its warp swells places to {value:.2f} (median {median:.2f})",
        "high",
    ),
)
NUMBERS = (
    _Number(
        "likeness",
        "unlike the cohort's mean",
        "unlike the mean of the cohort (correlation {value:.2f}, median {median:.2f})",
        "low",
    ),
    _Number(
        "symmetry",
        "left and right differ",
        "left and right differ (correlation {value:.2f}, median {median:.2f})",
        "low",
    ),
    _Number("brain_litres", "unusual volume", "brain of {value:.2f} litres (median {median:.2f})", "both"),
    _Number("turn_degrees", "turned", "turned by {value:.0f} degrees (median {median:.0f})", "high"),
    _Number("stretch", "changed proportions", "proportions changed by {value:.2f} (median {median:.2f})", "high"),
    # half: bright vessels or a piece of neck are common and do little harm
    _Number(
        "skewness",
        "unusual intensities",
        "unusual intensities (skewness {value:.2f}, median {median:.2f})",
        "both",
        0.5,
    ),
)

# the beginning of a reason, and its kind
KINDS = (
    (HEAD, "a head, no brain"),
    (FLIPPED, "axes flipped"),
    (SAME, "like another case"),
    (ALIKE, "like another case"),
    *((number.reason.partition("{")[0], number.kind) for number in (*NUMBERS, *OF_WARP)),
)


def kind_of(reason: str) -> str:
    """What kind of reason one of `find_suspicious` is, in a few words, for a filter."""
    return next(kind for beginning, kind in KINDS if reason.startswith(beginning))


def find_suspicious(cases: Sequence[Measurements], subject_of: dict[str, str]) -> pd.DataFrame:
    """Compare the cases of a cohort.

    Args:
        cases: of one preprocessed dataset.
        subject_of: subject id by case id; a person's scans may be alike.

    Returns:
        One row a case, most suspicious first: its id, the numbers, `nearest_case` with `nearest_correlation`,
        `suspicion` (0: nothing stands out) and `reasons`, joined by "; ".
    """
    coarse = np.stack([case.coarse_zyx for case in cases]).astype(np.float32)
    mean_zyx = coarse.mean(axis=0)
    names = [case.case for case in cases]
    nearest, correlation = _nearest(coarse)
    table = pd.DataFrame(
        {
            "case_id": names,
            "brain_litres": [case.brain_litres for case in cases],
            "has_mask": [case.has_mask for case in cases],
            "likeness": [_correlation(volume, mean_zyx) for volume in coarse],
            "symmetry": [_symmetry(volume) for volume in coarse],
            "turn_degrees": _turns(coarse, mean_zyx),
            "skewness": [case.skewness for case in cases],
            **{f"stretch_{axis}": [case.stretch_zyx[index] for case in cases] for index, axis in enumerate("zyx")},
            "stretch": [max(case.stretch_zyx) / min(case.stretch_zyx) for case in cases],
            "share_cut_off": [case.share_cut_off for case in cases],
            "nearest_case": [names[index] for index in nearest],
            "nearest_correlation": correlation,
            # of cases that were all warped; others have none
            **{name: [case.of_warp.get(name, np.nan) for case in cases] for name in cases[0].of_warp},
        }
    )
    suspicion = np.zeros(len(cases))
    reasons: list[list[str]] = [[] for _ in cases]
    for number in (*NUMBERS, *(one for one in OF_WARP if one.column in table)):
        _judge(table[number.column], number, suspicion, reasons)
    for index, volume in enumerate(coarse):
        certain = (
            ([HEAD] if cases[index].is_head else [])
            + _flips(volume, mean_zyx)
            + _duplicates(table.iloc[index], subject_of)
        )
        suspicion[index] += CERTAIN * len(certain)
        reasons[index] = certain + reasons[index]
    table["suspicion"], table["reasons"] = suspicion, [JOINT.join(found) for found in reasons]
    return table.sort_values(["suspicion", "case_id"], ascending=[False, True], ignore_index=True)


def _judge(values: pd.Series, number: _Number, suspicion: np.ndarray, reasons: list[list[str]]) -> None:
    """Add what a number says to the cases' suspicion and reasons, both changed in place."""
    median = float(values.median())
    deviation = float(values.quantile(0.75) - values.quantile(0.25)) / 1.349
    if not deviation > 0:
        return
    distance = (values.to_numpy() - median) / deviation
    distance = {"low": -distance, "high": distance, "both": np.abs(distance)}[number.side]
    suspicion += number.weight * (np.clip(distance, COUNTS_FROM, COUNTS_TO) - COUNTS_FROM)
    for index in np.flatnonzero(distance > COUNTS_FROM):
        reasons[index].append(number.reason.format(value=values[index], median=median))


def _correlation(one_zyx: np.ndarray, other_zyx: np.ndarray) -> float:
    return float(np.corrcoef(one_zyx.ravel(), other_zyx.ravel())[0, 1])


def _symmetry(volume_zyx: np.ndarray) -> float:
    """Correlation of a volume with its mirror image about the plane through the brain's middle."""
    middle = (volume_zyx.shape[2] - 1) / 2
    shift = middle - ndimage.center_of_mass(volume_zyx != 0)[2]
    centred_zyx = ndimage.shift(volume_zyx, (0, 0, shift), order=1)
    return _correlation(centred_zyx, centred_zyx[:, :, ::-1])


def _turns(coarse: np.ndarray, mean_zyx: np.ndarray) -> np.ndarray:
    """Angle in degrees by which each volume is turned against the mean.

    To first order in the angles: the volume is fitted by the mean, its shifts and its rotations about the three axes.
    Angles beyond some 20 degrees are underestimated, but still stand out.
    """
    mean_zyx = ndimage.gaussian_filter(mean_zyx, 1)
    slopes = np.stack(np.gradient(mean_zyx))
    z, y, x = np.indices(mean_zyx.shape) - np.reshape(np.array(mean_zyx.shape) - 1, (3, 1, 1, 1)) / 2
    rotations = [y * slopes[2] - x * slopes[1], x * slopes[0] - z * slopes[2], z * slopes[1] - y * slopes[0]]
    basis = np.stack([np.ones_like(mean_zyx), mean_zyx, *slopes, *rotations]).reshape(8, -1).T
    smooth = np.stack([ndimage.gaussian_filter(volume, 1) for volume in coarse]).reshape(len(coarse), -1)
    weights = np.linalg.lstsq(basis, smooth.T, rcond=None)[0]
    # a volume that has nothing of the mean would divide by 0
    degrees = np.rad2deg(weights[5:] / np.maximum(weights[1], 0.1))
    return np.linalg.norm(degrees - np.median(degrees, axis=1, keepdims=True), axis=0)


def _flips(volume_zyx: np.ndarray, mean_zyx: np.ndarray) -> list[str]:
    """A reason if other axes or directions, which a wrong header can cause, bring the volume closer to the mean."""
    found = {}
    for axes, directions in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = volume_zyx.transpose(axes)[tuple(slice(None, None, step) for step in directions)]
        found[axes, directions] = _correlation(turned, mean_zyx)
    as_it_is = max(found.pop(((0, 1, 2), (1, 1, 1))), found.pop(LEFT_TO_RIGHT))
    best = max(found.values())
    if best < as_it_is + FLIP_GAIN:
        return []
    return [f"{FLIPPED} (correlation {best:.2f}, as it is {as_it_is:.2f})"]


def _duplicates(row: pd.Series, subject_of: dict[str, str]) -> list[str]:
    case, other, correlation = row["case_id"], row["nearest_case"], row["nearest_correlation"]
    if correlation >= SAME_SCAN:
        return [f"{SAME}{other}"]
    if correlation >= SAME_PERSON and subject_of[case] != subject_of[other]:
        return [f"{ALIKE}{other} as scans of one person are (correlation {correlation:.3f})"]
    return []


def _nearest(coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each volume the index of the one it correlates with most, and how much; itself if it is the only one."""
    rows = coarse.reshape(len(coarse), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    nearest, correlation = np.zeros(len(rows), dtype=int), np.zeros(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK] @ rows.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -1
        nearest[start : start + BLOCK] = block.argmax(axis=1)
        correlation[start : start + BLOCK] = block.max(axis=1)
    return nearest, correlation
