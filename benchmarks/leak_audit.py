"""How well the audit recognises people by their brains: copies of scans, OASIS-1 with its ids scrambled, and IXI.

    python benchmarks/leak_audit.py --work DIR

Copies: people of OASIS-1 and IXI are divided into two halves. In each half, 110 distinct people are a cohort, and
copies of 20 of them, all changed in one way (`leak_audit_copies.py`), join it under other ids. How many are found, and
how many pairs of distinct people are taken for one. The threshold was chosen on the first half; the second confirms it.

Repeats: for several ways of preparing the scans, and for random cohorts of smaller size, how many of OASIS-1's repeated
sessions are found, how many pairs with different ids are taken for one person, and the margin between the two. OASIS-1
lies on one grid, so that scans can also be compared voxel by voxel: this second opinion is given on the pairs with
different ids. ADNEXT_TEST_DATA names the folder of the data. Coarse copies are kept in DIR, where a run that was
stopped finds them.
"""

import argparse
import json
import os
import pickle
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from leak_audit_copies import CHANGES, brains_of_head

from adnext_plugin.environment import usable_cpus
from adnext_plugin.images import Volume, read_volume
from adnext_plugin.itk_threads import one_itk_thread
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.records import to_json
from adnext_plugin.splits.likeness import coarse_copy, find_resemblance, without_what_is_shared
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "leak_audit.json"
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"
COHORT = 110  # distinct people in each half
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
    heads = sorted((data / "ixi" / "head").glob("*.nii.gz"))[: arguments.heads]
    report: dict = {"made_by": provenance(), "processors": os.cpu_count()}
    report |= {"copies": [], "whole_cohorts": [], "smaller_cohorts_of_oasis": []}
    for name in arguments.prepared:
        settings = GEOMETRIES[name]
        make = partial(_coarse_copy, settings)
        vectors = np.stack(_made(make, [*oasis, *ixi], arguments.work, f"scans, {name}"))
        if name in arguments.copies_in:
            report["copies"] += _copies(name, [*oasis, *ixi], people, vectors, heads, arguments)
        rows = {"OASIS-1": np.arange(len(oasis)), "IXI": np.arange(len(oasis), len(people))}
        rows["both"] = np.arange(len(people))
        for cohort, chosen in rows.items():
            found = _count(vectors[chosen], people[chosen])
            report["whole_cohorts"].append({"prepared": name, "settings": to_json(settings), "cohort": cohort, **found})
        for size in arguments.sizes:
            smaller = _of_size(size, vectors, people, len(oasis))
            report["smaller_cohorts_of_oasis"].append({"prepared": name, **smaller})
        if "oasis_voxel_by_voxel" not in report:
            report["oasis_voxel_by_voxel"] = _voxel_by_voxel(oasis, people[: len(oasis)], vectors[: len(oasis)])
        if not arguments.dry:
            RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _copies(
    name: str,
    paths: list[Path],
    people: np.ndarray,
    vectors: np.ndarray,
    heads: list[Path],
    arguments: argparse.Namespace,
) -> list[dict]:
    """What is found of copies of each kind in two cohorts without a person in common."""
    settings = GEOMETRIES[name]
    _, first_scans = np.unique(people, return_index=True)
    order = np.random.default_rng(0).permutation(first_scans)
    size = min(COHORT, len(order) // 2)
    # of people whose heads are there, too, extraction is looked at apart, as there are few
    cohorts = {"chosen on": order[:size], "confirmed on": order[-size:]}
    rows = []
    for half, cohort in cohorts.items():
        chosen = cohort[: arguments.copies]
        made = _made(partial(_changed, settings), [paths[index] for index in chosen], arguments.work, f"{half}, {name}")
        alone = len(find_resemblance(vectors[cohort], [str(index) for index in cohort]).pairs)
        for change in made[0]:
            copies = np.stack([one[change] for one in made])
            found = _count_copies(vectors[cohort], copies, np.arange(len(chosen)), is_mirrored="mirrored" in change)
            rows.append({"prepared": name, "half": half, "change": change, **found, "false_alarms_alone": alone})
    own = {path.name: index for index, path in enumerate(paths)}
    made = _made(partial(_extracted, settings), heads, arguments.work, f"heads, {name}")
    of_heads = [own[path.name] for path in heads if path.name in own]
    others = [index for index in order if index not in of_heads][: size - len(of_heads)]
    for change in made[0] if of_heads else ():
        copies = np.stack([one[change] for one, path in zip(made, heads, strict=True) if path.name in own])
        found = _count_copies(vectors[[*of_heads, *others]], copies, np.arange(len(of_heads)), is_mirrored=False)
        rows.append({"prepared": name, "half": "both", "change": change, **found})
    return rows


def _count_copies(cohort: np.ndarray, copies: np.ndarray, of: np.ndarray, *, is_mirrored: bool) -> dict:
    """What is found where `copies[k]` is of person `of[k]` of a cohort of distinct people."""
    count = len(cohort)
    everyone = np.concatenate([cohort, copies])
    own, mirrored = without_what_is_shared(everyone)
    similar = own @ (mirrored if is_mirrored else own)[count:].T
    margin = [float(similar[person, place]) for place, person in enumerate(of)]
    found = find_resemblance(everyone, [str(index) for index in range(len(everyone))])
    right = {(int(person), count + place) for place, person in enumerate(of)}
    hits = [pair for pair in found.pairs if pair[:2] in right]
    return {
        "people": count,
        "copies": len(copies),
        "found": len(hits),
        "said_to_be_mirrored": sum(pair.is_mirrored for pair in hits),
        "least_alike_copy": min(margin),
        "most_alike_strangers": found.strangers[2],
        "threshold": found.threshold,
        "false_alarms": len(found.pairs) - len(hits),
    }


def _made(make: Callable[[Path], Any], paths: list[Path], work: Path | None, name: str) -> list:
    """What `make` gives for each file, from an earlier run where it has been made."""
    kept = None if work is None else work / f"{name}.pkl"
    known: dict[str, Any] = pickle.loads(kept.read_bytes()) if kept is not None and kept.is_file() else {}
    missing = [path for path in paths if path.name not in known]
    with ProcessPoolExecutor(usable_cpus()) as pool:
        for count, (path, result) in enumerate(zip(missing, pool.map(make, missing, chunksize=2), strict=True)):
            known[path.name] = result
            if kept is not None and (count % 4 == 0 or count == len(missing) - 1):
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(pickle.dumps(known))
    return [known[path.name] for path in paths]


def _changed(settings: PreprocessingSettings, path: Path) -> dict[str, np.ndarray]:
    scan, seed = read_volume(path), zlib.crc32(path.name.encode())
    changed = {name: change(scan, np.random.default_rng(seed)) for name, change in CHANGES.items()}
    return {name: _of_volume(settings, volume) for name, volume in changed.items()}


def _extracted(settings: PreprocessingSettings, head: Path) -> dict[str, np.ndarray]:
    return {name: _of_volume(settings, volume) for name, volume in brains_of_head(head).items()}


def _count(vectors: np.ndarray, people: np.ndarray) -> dict:
    """What is found where every scan has an id of its own."""
    found = find_resemblance(vectors, [str(index) for index in range(len(people))])
    right = [pair.cosine for pair in found.pairs if people[pair.first] == people[pair.second]]
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
    return _of_volume(settings, read_volume(path))


def _of_volume(settings: PreprocessingSettings, volume: Volume) -> np.ndarray:
    with one_itk_thread():
        return coarse_copy(prepare(volume, settings).volume_zyx, settings.spacing_mm)


def _first_people(paths: list[Path], count: int | None) -> list[Path]:
    return [path for path in paths if path.name[:9] in sorted({path.name[:9] for path in paths})[:count]]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, help="only the first of each cohort")
    parser.add_argument("--sizes", nargs="*", type=int, default=[20, 40, 80, 160], help="of smaller cohorts")
    parser.add_argument("--copies", type=int, default=20, help="people copied in each half (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=20, help="whose brains are extracted (default: %(default)s)")
    parser.add_argument("--prepared", nargs="+", default=list(GEOMETRIES), choices=GEOMETRIES, help="ways of preparing")
    parser.add_argument(
        "--copies-in", nargs="*", default=["2 mm, true size"], choices=GEOMETRIES, help="ways of preparing copies"
    )
    parser.add_argument("--work", type=Path, help="folder for coarse copies; those that are there are used")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
