"""BIDS trees, derivatives and CAPS folders: which image belongs to which row."""

import json
from pathlib import Path

import pytest

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.tables.joining import join_table
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.importing.targets import TargetRule, resolve_column

PARTICIPANTS = [("participant_id", "age", "sex", "site"), ("sub-A", "89+", "F", "Rome"), ("sub-B", "70", "M", "Oslo")]


def _image(subject: str, session: str, entities: str = "", folder: str = "anat", root: str = "") -> str:
    return f"{root}sub-{subject}/ses-{session}/{folder}/sub-{subject}_ses-{session}{entities}_T1w.nii.gz"


@pytest.fixture
def adni(tree) -> Path:
    """A tree as Clinica makes it of ADNI: labels by session, M006 in one place and M06 in the other."""
    return tree(
        {
            "participants.tsv": [*PARTICIPANTS, ("sub-C", "60", "M", "Oslo")],
            "sub-A/sub-A_sessions.tsv": [
                ("session_id", "age", "diagnosis"),
                ("ses-M00", "88", "CN"),
                ("ses-M06", "89", "MCI"),
            ],
            "sub-B/sub-B_sessions.tsv": [
                ("session_id", "age", "diagnosis"),
                ("ses-M000", "70", "AD"),
                ("ses-M012", "71", "AD"),
            ],
            _image("A", "M000"): "",
            _image("A", "M006", "_run-10"): "",
            _image("A", "M006", "_run-2"): "",
            _image("B", "M000", "_acq-fast"): "",
            "phenotype/mmse.tsv": [
                ("participant_id", "session_id", "total", "age"),
                ("sub-A", "ses-M006", "25", "89.4"),
            ],
            "phenotype/items.tsv": [("participant_id", "item"), ("sub-A", "1"), ("sub-A", "2")],
            "sub-A/ses-M006/sub-A_ses-M006_scans.tsv": [
                ("filename", "acq_time"),
                ("anat/sub-A_ses-M006_run-2_T1w.nii.gz", "2007-05-01T09:00:00"),
            ],
            "T1w.json": json.dumps({"Manufacturer": "Siemens", "MagneticFieldStrength": 3}),
            "sub-B/ses-M000/anat/sub-B_ses-M000_acq-fast_T1w.json": json.dumps({"MagneticFieldStrength": 1.5}),
            "sub-A/ses-M000/anat/sub-A_ses-M000_run-9_T1w.json": json.dumps({"MagneticFieldStrength": 7}),
        }
    )


def test_each_scan_has_the_row_of_its_session_however_that_is_written(adni) -> None:
    source = read_bids_source(BidsOptions(root=adni))
    assert [(str(scan), scan.row["diagnosis"], scan.row["age"]) for scan in source.scans] == [
        ("sub-A ses-M000", "CN", "88"),
        ("sub-A ses-M006", "MCI", "89"),
        ("sub-A ses-M006", "MCI", "89"),
        ("sub-B ses-M000", "AD", "70"),
    ]
    assert source.rows_without_image == ("sub-B ses-M012", "sub-C")
    assert source.scans[1].image.name.count("run-2")  # before run-10
    selected = select_cases(source, TargetRule(column="diagnosis"), Choice())
    assert [Path(path).name for path in selected.unused_images] == ["sub-A_ses-M006_run-10_T1w.nii.gz"]


def test_phenotypes_scan_times_and_sidecars_are_part_of_the_row(adni) -> None:
    source = read_bids_source(BidsOptions(root=adni))
    second = source.scans[1]
    assert second.row["total"] == "25" and second.row["mmse.age"] == "89.4" and second.moment.calendar_day
    assert source.scans[0].row["total"] == ""
    assert any("items.tsv names 'sub-A' twice" in note for note in source.notes)
    cases = select_cases(source, TargetRule(column="diagnosis"), Choice()).cases
    found = [(case.covariates["field_strength"], case.covariates["vendor"], case.covariates["site"]) for case in cases]
    assert found == [(3.0, "Siemens", "Rome"), (3.0, "Siemens", "Rome"), (1.5, "Siemens", "Oslo")]


def test_entities_and_sessions_choose_scans(adni) -> None:
    assert [str(scan) for scan in read_bids_source(BidsOptions(root=adni, entities={"acq": "fast"})).scans] == [
        "sub-B ses-M000"
    ]
    source = read_bids_source(BidsOptions(root=adni, entities={"acq": "none"}))
    baseline = select_cases(source, None, Choice(session="baseline"))
    assert [case.case_id for case in baseline.cases] == ["sub-A_ses-M000"]
    with pytest.raises(PathsError, match="--entity acq=slow"):
        read_bids_source(BidsOptions(root=adni, entities={"acq": "slow"}))


def test_a_derivative_has_the_images_and_the_tree_the_tables(tree) -> None:
    root = tree(
        {
            "participants.tsv": PARTICIPANTS,
            _image("A", "1"): "",
            "sub-A/ses-1/anat/sub-A_ses-1_T1w.json": json.dumps({"MagneticFieldStrength": 3}),
            _image("A", "1", "_desc-preproc", root="derivatives/fmriprep/"): "",
            _image("A", "1", "_space-MNI_desc-preproc", root="derivatives/fmriprep/"): "",
        }
    )
    with pytest.raises(TableError, match=r"sub-A ses-1 has images that differ .* desc-preproc, space-MNI_desc-preproc"):
        read_bids_source(BidsOptions(root=root, derivative="fmriprep"))
    source = read_bids_source(BidsOptions(root=root, derivative="fmriprep", entities={"space": "none"}))
    assert [scan.image.name for scan in source.scans] == ["sub-A_ses-1_desc-preproc_T1w.nii.gz"]
    assert source.scans[0].row["MagneticFieldStrength"] == "3" and source.scans[0].row["site"] == "Rome"
    with pytest.raises(PathsError, match="has fmriprep"):
        read_bids_source(BidsOptions(root=root, derivative="hdbet"))


@pytest.mark.parametrize(
    ("pipeline", "folder", "entities"),
    [
        ("t1-linear", "t1_linear", "_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1"),
        ("t1-volume", "t1/spm/segmentation/normalized_space", "_space-Ixi549Space"),
    ],
)
def test_caps_images_are_described_by_the_bids_tree_they_were_made_of(
    tree, pipeline: str, folder: str, entities: str
) -> None:
    root = tree(
        {
            "bids/participants.tsv": PARTICIPANTS,
            "bids/sub-A/sub-A_sessions.tsv": [("session_id", "diagnosis"), ("ses-M000", "CN")],
            "bids/" + _image("A", "M000"): "",
            _image("A", "M000", entities, folder, root="caps/subjects/"): "",
            f"caps/subjects/sub-A/ses-M000/{folder}/sub-A_ses-M000_T1w_segm-graymatter_probability.nii.gz": "",
        }
    )
    source = read_bids_source(BidsOptions(root=root / "bids", caps=root / "caps", caps_pipeline=pipeline))
    assert [(str(scan), scan.row["diagnosis"]) for scan in source.scans] == [("sub-A ses-M000", "CN")]
    assert "caps" in source.scans[0].image.parts and source.rows_without_image == ("sub-B",)


def test_clinicas_missing_diagnoses_of_oasis_patients_are_taken_from_the_rating(tree) -> None:
    # pandas reads the rating as a float, and Clinica knows ratings above 0 only as integers
    rows = {"sub-OASIS10001": ("n/a", "0.5"), "sub-OASIS10002": ("CN", "0.0"), "sub-OASIS10003": ("n/a", "1.0")}
    files = {"participants.tsv": [("participant_id", "sex"), *((name, "F") for name in rows)]}
    for name, cells in rows.items():
        files[f"{name}/{name}_sessions.tsv"] = [("session_id", "diagnosis", "cdr_global"), ("ses-M000", *cells)]
        files[_image(name.removeprefix("sub-"), "M000")] = ""
    root = tree(files)
    source = read_bids_source(BidsOptions(root=root))
    with pytest.raises(TableError, match=r"2 scans have no diagnosis: .* --from-cdr cdr_global"):
        select_cases(source, TargetRule(column="diagnosis"), Choice())
    rule = resolve_column(TargetRule(column="", is_cdr=True, classes=("CN", "AD")), source)
    assert [case.target for case in select_cases(source, rule, Choice()).cases] == ["AD", "CN", "AD"]
    # where the tree has lost the rating, the cohort's own table has it
    table = tree(
        {
            "o.csv": [
                ("ID", "M/F", "Hand", "Age", "CDR"),
                *((f"OAS1_000{n}_MR1", "F", "R", "70", c) for n, c in ((1, "0.5"), (2, "0"), (3, "1"))),
            ]
        }
    )
    joined = join_table(source, read_table(table / "o.csv"), by_time=False)
    assert [scan.row["CDR"] for scan in joined.scans] == ["0.5", "0", "1"]


def test_a_folder_of_dicom_files_is_sent_to_the_converter(tree) -> None:
    root = tree({"002_S_0295/scan/I1/slice_1": ""})
    (root / "002_S_0295/scan/I1/slice_1").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(PathsError, match="dcm2niix"):
        read_bids_source(BidsOptions(root=root))


def test_real_raw_heads_are_found_with_age_and_sex(real_data) -> None:
    source = read_bids_source(BidsOptions(root=real_data / "bids_ds000011"))
    cases = select_cases(source, resolve_column(TargetRule(column="age", is_number=True), source), Choice()).cases
    assert len(cases) == 6 and not source.rows_without_image
    assert (cases[0].case_id, cases[0].target, cases[0].covariates["sex"]) == ("sub-01", 35.0, "M")
