"""How well the audit recognises people by their brains: OASIS-1 with its ids scrambled, and IXI, where nobody is twice.

    python benchmarks/leak_audit.py

For several ways of preparing the scans, and for random cohorts of smaller size: how many of the repeated sessions are
found, how many pairs with different ids are taken for one person, and the margin between the two. The threshold was
chosen with these cohorts in view. OASIS-1 lies on one grid, so that scans can also be compared voxel by voxel: this
second opinion is given on the pairs with different ids. ADNEXT_TEST_DATA names the folder of the data.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from adnext_plugin.environment import usable_cpus
from adnext_plugin.images import read_volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.records import to_json
from adnext_plugin.splits.likeness import coarse_copy, find_resemblance
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "leak_audit.json"
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"
GEOMETRIES = {
    "2 mm, true size": PreprocessingSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(80, 96, 80)),
    "4 mm, true size": PreprocessingSettings(spacing_mm=(4.0, 4.0, 4.0), input_size_voxels=(40, 48, 40)),
    "2 mm, stretched": PreprocessingSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(80, 96, 80), fit="resize"),
}


def main() -> None:
    """Measure all geometries and cohort sizes and report."""
    arguments = _parse()
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))
    oasis = _first_people(sorted((data / "oasis1" / "images").glob("*.nii.gz")), arguments.people)
    ixi = sorted((data / "ixi" / "brain").rglob("*.nii.gz"))[: arguments.people]
    people = np.array([path.name[:9] for path in oasis] + [path.name for path in ixi])
    whole, smaller, voxel_by_voxel = [], [], None
    for name, settings in GEOMETRIES.items():
        with ProcessPoolExecutor(usable_cpus()) as pool:
            vectors = np.stack(list(pool.map(partial(_coarse_copy, settings), [*oasis, *ixi], chunksize=8)))
        rows = {"OASIS-1": np.arange(len(oasis)), "IXI": np.arange(len(oasis), len(people))}
        rows["both"] = np.arange(len(people))
        for cohort, chosen in rows.items():
            found = _count(vectors[chosen], people[chosen])
            whole.append({"prepared": name, "settings": to_json(settings), "cohort": cohort, **found})
        if voxel_by_voxel is None:
            voxel_by_voxel = _voxel_by_voxel(oasis, people[: len(oasis)], vectors[: len(oasis)])
        smaller += [{"prepared": name, **_of_size(size, vectors, people, len(oasis))} for size in arguments.sizes]
    report = {
        "made_by": provenance(),
        "whole_cohorts": whole,
        "smaller_cohorts_of_oasis": smaller,
        "oasis_voxel_by_voxel": voxel_by_voxel,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _count(vectors: np.ndarray, people: np.ndarray) -> dict:
    """What is found where every scan has an id of its own."""
    found = find_resemblance(vectors, [str(index) for index in range(len(people))])
    right = [cosine for first, second, cosine in found.pairs if people[first] == people[second]]
    _, scans = np.unique(people, return_counts=True)
    return {
        "scans": len(people),
        "people": len(scans),
        "repeats": int((scans * (scans - 1) // 2).sum()),
        "repeats_found": len(right),
        "pairs_with_different_ids": len(found.pairs) - len(right),
        "threshold": found.threshold,
        "least_alike_repeat_found": min(right, default=None),
        "most_alike_below_threshold": found.strangers[2],
    }


def _of_size(size: int, vectors: np.ndarray, people: np.ndarray, oasis: int, draws: int = 50) -> dict:
    """Totals over random cohorts of OASIS-1 with 5 repeated people each."""
    generator = np.random.default_rng(0)
    names, scans = np.unique(people[:oasis], return_counts=True)
    twice, once = names[scans > 1], names[scans == 1]
    totals = {"repeats": 0, "repeats_found": 0, "pairs_with_different_ids": 0}
    cohorts_with_such_pairs = 0
    for _ in range(draws):
        drawn = [*generator.choice(twice, 5, replace=False), *generator.choice(once, size - 5, replace=False)]
        rows = np.flatnonzero(np.isin(people[:oasis], drawn))
        found = _count(vectors[rows], people[rows])
        totals = {key: total + found[key] for key, total in totals.items()}
        cohorts_with_such_pairs += found["pairs_with_different_ids"] > 0
    return {"people": size, "cohorts": draws, **totals, "cohorts_with_such_pairs": cohorts_with_such_pairs}


def _voxel_by_voxel(paths: list[Path], people: np.ndarray, vectors: np.ndarray) -> dict:
    """Correlations inside both brains, of repeats, of the pairs with different ids, and of pairs drawn at random."""
    found = find_resemblance(vectors, [str(index) for index in range(len(people))])
    generator = np.random.default_rng(0)
    groups = {
        "repeats": [pair[:2] for pair in found.pairs if people[pair[0]] == people[pair[1]]],
        "pairs_with_different_ids": [pair[:2] for pair in found.pairs if people[pair[0]] != people[pair[1]]],
        "random_pairs": [generator.choice(len(people), 2, replace=False) for _ in range(200)],
    }
    correlations = {}
    for name, pairs in groups.items():
        values = []
        for pair in pairs:
            first, second = (read_volume(paths[index]).volume_zyx for index in pair)
            inside = (first > 0) & (second > 0)
            values.append(float(np.corrcoef(first[inside], second[inside])[0, 1]))
        correlations[name] = {"smallest": min(values, default=None), "largest": max(values, default=None)}
    return correlations


def _coarse_copy(settings: PreprocessingSettings, path: Path) -> np.ndarray:
    return coarse_copy(prepare(read_volume(path), settings).volume_zyx, settings.spacing_mm)


def _first_people(paths: list[Path], count: int | None) -> list[Path]:
    return [path for path in paths if path.name[:9] in sorted({path.name[:9] for path in paths})[:count]]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, help="only the first of each cohort")
    parser.add_argument("--sizes", nargs="*", type=int, default=[20, 40, 80, 160], help="of smaller cohorts")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
