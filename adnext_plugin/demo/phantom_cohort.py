"""A cohort of phantoms as a BIDS tree, and the truth about it in a table beside it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from sklearn.metrics import roc_auc_score

from adnext_plugin.demo.phantom import Anatomy, changed_by_disease, load_template, make_phantom
from adnext_plugin.errors import AdnextError
from adnext_plugin.files import replacing
from adnext_plugin.parallel import for_each

VENTRICLE_GROWTH = 0.25  # of patients at effect 1, linear, at the centre of the region
TEMPORAL_LOSS = 0.15
GROWTH_SPREAD = 0.07  # standard deviation among equals
LOSS_SPREAD = 0.06
GROWTH_PER_YEAR = 0.004  # ventricles grow with age in everybody
REPEATED = 5  # every fifth subject has a second session


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One person of the cohort."""

    subject_id: str
    is_patient: bool
    age: float
    sex: str
    anatomy: Anatomy
    scan_seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The true volumes of a subject's first scan."""

    subject_id: str
    is_patient: bool
    ventricles_ml: float
    medial_temporal_ml: float


def draw_subjects(count: int, effect: float, seed: int) -> list[Subject]:
    """Draw people, every other one a patient; with effect 0 patients differ from controls in nothing but the label.

    Args:
        count: of people.
        effect: multiplies what sets patients apart.
        seed: of everything; equal seeds give equal people apart from the effect.
    """
    subjects = []
    for index in range(count):
        generator = np.random.default_rng((seed, index))
        is_patient = index % 2 == 1
        age = round(generator.uniform(60, 85), 1)
        sex = "M" if generator.random() < 0.5 else "F"
        growth = GROWTH_PER_YEAR * (age - 72.5) + generator.normal(0, GROWTH_SPREAD)
        loss = generator.normal(0, LOSS_SPREAD)
        scale = generator.normal(1.02 if sex == "M" else 0.98, 0.025)
        shape_seed, *scan_seeds = generator.integers(2**32, size=3 if index % REPEATED == 0 else 2).tolist()
        anatomy = Anatomy(
            ventricle_growth=growth + is_patient * effect * VENTRICLE_GROWTH,
            temporal_loss=loss + is_patient * effect * TEMPORAL_LOSS,
            scale=scale,
            shape_seed=shape_seed,
        )
        subjects.append(
            Subject(
                subject_id=f"sub-{index:03d}",
                is_patient=is_patient,
                age=age,
                sex=sex,
                anatomy=anatomy,
                scan_seeds=tuple(scan_seeds),
            )
        )
    return subjects


def write_cohort(subjects: Sequence[Subject], folder: Path, *, processes: int) -> list[Truth]:
    """Write the BIDS tree, `truth.csv`, and `true_regions.nii.gz`: the voxels that the disease changes at effect 1.

    Args:
        subjects: people.
        folder: gets `bids/` and the two files.
        processes: how many scans at once.
    """
    jobs = [(subject, folder / "bids") for subject in subjects]
    found: dict[int, Truth] = {}
    for index, truth in for_each(_write_subject, jobs, processes=processes, description="Drawing phantoms"):
        if isinstance(truth, AdnextError):
            raise truth
        found[index] = truth
    truths = [found[index] for index in range(len(jobs))]
    rows = [
        [subject.subject_id, subject.age, subject.sex, "patient" if subject.is_patient else "control"]
        for subject in subjects
    ]
    _write_table(folder / "bids" / "participants.tsv", ["participant_id", "age", "sex", "group"], rows, "\t")
    with replacing(folder / "bids" / "dataset_description.json") as temporary:
        temporary.write_text('{"Name": "adnext_plugin phantom cohort", "BIDSVersion": "1.9.0"}\n')
    _write_table(folder / "truth.csv", list(vars(truths[0])), [list(vars(truth).values()) for truth in truths], ",")
    regions = changed_by_disease(VENTRICLE_GROWTH, TEMPORAL_LOSS).astype(np.uint8)
    with replacing(folder / "true_regions.nii.gz") as temporary:
        nibabel.save(nibabel.Nifti1Image(regions, load_template().affine), temporary)
    return truths


def describe_effect(truths: Sequence[Truth]) -> list[str]:
    """What is really there: how far the groups differ, and how well the true volumes alone tell them apart."""
    is_patient = np.array([truth.is_patient for truth in truths])
    lines, scores = [], []
    for name, sign in (("ventricles", 1), ("medial_temporal", -1)):
        volumes = np.array([getattr(truth, f"{name}_ml") for truth in truths])
        controls, patients = volumes[~is_patient], volumes[is_patient]
        pooled = np.sqrt((controls.var(ddof=1) + patients.var(ddof=1)) / 2)
        change = patients.mean() / controls.mean() - 1
        effect_size = (patients.mean() - controls.mean()) / pooled
        scores.append(sign * (volumes - controls.mean()) / pooled)
        lines.append(
            f"{name.replace('_', ' ')}: controls {controls.mean():.1f} ml, patients {patients.mean():.1f} ml "
            f"({change:+.0%}, Cohen's d {effect_size:+.2f})"
        )
    best = roc_auc_score(is_patient, sum(scores))
    lines.append(f"an observer who knew both true volumes and added their z-scores would reach AUC {best:.3f}")
    return lines


def _write_subject(job: tuple[Subject, Path]) -> Truth:
    subject, bids = job
    affine = load_template().affine
    for session, seed in enumerate(subject.scan_seeds, start=1):
        phantom = make_phantom(subject.anatomy, seed)
        name = f"{subject.subject_id}_ses-{session:02d}_T1w.nii.gz"
        path = bids / subject.subject_id / f"ses-{session:02d}" / "anat" / name
        with replacing(path) as temporary:
            nibabel.save(nibabel.Nifti1Image(phantom.volume_xyz.astype(np.int16), affine), temporary)
        if session == 1:
            first = phantom
    return Truth(
        subject_id=subject.subject_id,
        is_patient=subject.is_patient,
        ventricles_ml=first.ventricles_ml,
        medial_temporal_ml=first.medial_temporal_ml,
    )


def _write_table(path: Path, header: list[str], rows: list[list], separator: str) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
