"""`adnext_import` as users call it: good sources, and every kind of bad one."""

import gzip
import itertools
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import Workspace, toy_brain, write_cohort, write_scan

from adnext_plugin.cli import import_dataset
from adnext_plugin.subjects import read_subjects

NAME = ["9", "Toy"]
LABELS = ["--target", "diagnosis", "-np", "1"]


def _run(capsys, *arguments: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = import_dataset.main([*NAME, *map(str, arguments)])
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def _nothing_written(workspace: Workspace) -> bool:
    return not list(workspace.raw.iterdir())


def test_a_table_becomes_a_dataset_with_its_subjects_in_one_table_only(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    write_scan(fresh.source / "unlisted.nii.gz", toy_brain(50, has_hole=False))
    code, _ = _run(capsys, "--table", table, *LABELS, "--label-map", "CN=healthy", "AD=ill")
    folder = fresh.raw / "Dataset009_Toy"
    assert code == 0
    description = json.loads((folder / "dataset.json").read_text())
    assert description["adnext"]["classes"] == ["healthy", "ill"] and description["numTraining"] == 17
    assert "sub01" not in (folder / "dataset.json").read_text()
    from adnext_plugin.records import from_json
    from adnext_plugin.task import Task

    subjects = read_subjects(folder / "subjects.csv", from_json(Task, description["adnext"], "x"))
    assert subjects["subject_id"].nunique() == 16
    assert subjects.loc[subjects["case_id"] == "sub01_M00", ["diagnosis", "age", "sex"]].values.tolist() == [
        ["ill", 61.0, "M"]
    ]
    image = folder / "imagesTr" / "sub01_M00_0000.nii.gz"
    assert image.is_symlink() and image.resolve() == (fresh.source / "sub01_M00.nii.gz").resolve()
    report = json.loads((folder / "import_report.json").read_text())
    assert report["cases_per_class"] == {"healthy": 9, "ill": 8}
    assert report["subjects_with_repeated_sessions"] == 1
    assert [Path(path).name for path in report["images_without_row"]] == ["unlisted.nii.gz"]


def test_a_dry_run_reports_and_writes_nothing(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    assert import_dataset.main([*NAME, "--table", str(table), *LABELS, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "CN: 9, AD: 8" in said and "positive class                    AD" in said
    assert _nothing_written(fresh)


def _bids_tree(root: Path) -> Path:
    rows = ["participant_id\tage\tsex\tgroup"]
    seeds = itertools.count()
    for index in range(6):
        name = f"sub-{index}"
        rows.append(f"{name}\t{'89+' if index == 1 else 60 + index}\t{'MF'[index % 2]}\t{['CN', 'AD'][index // 3]}")
        for session in ("ses-1", "ses-2") if index == 0 else ("ses-1",):
            for run in ("run-1", "run-2") if index == 2 else ("run-1",):
                path = root / name / session / "anat" / f"{name}_{session}_{run}_T1w.nii.gz"
                write_scan(path, toy_brain(next(seeds), has_hole=False))
    rows.append("sub-without\t70\tM\tCN")
    write_scan(root / "sub-stray" / "anat" / "sub-stray_T1w.nii.gz", toy_brain(2000, has_hole=False))
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def test_a_bids_tree_is_matched_both_ways(fresh, capsys) -> None:
    root = _bids_tree(fresh.source / "bids")
    code, _ = _run(capsys, "--bids", root, "--target", "group", "-np", "1", "--copy")
    assert code == 0
    folder = fresh.raw / "Dataset009_Toy"
    report = json.loads((folder / "import_report.json").read_text())
    assert report["rows_without_image"] == ["sub-without"]
    assert [Path(path).name for path in report["images_without_row"]] == ["sub-stray_T1w.nii.gz"]
    assert [Path(path).name for path in report["unused_images"]] == ["sub-2_ses-1_run-2_T1w.nii.gz"]
    subjects = pd.read_csv(folder / "subjects.csv", dtype=str)
    assert subjects["case_id"].tolist()[:3] == ["sub-0_ses-1", "sub-0_ses-2", "sub-1_ses-1"]
    assert subjects.loc[subjects["subject_id"] == "sub-1", "age"].item() == "89.0"
    assert not (folder / "imagesTr" / "sub-1_ses-1_0000.nii.gz").is_symlink()


def test_a_target_that_is_the_sex_column_is_marked_as_giving_itself_away(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    assert _run(capsys, "--table", table, "--target", "sex", "-np", "1")[0] == 0
    task = json.loads((fresh.raw / "Dataset009_Toy" / "dataset.json").read_text())["adnext"]
    assert task["derived_from"] == ["sex"] and task["target"] == "sex_class" and task["classes"] == ["F", "M"]


def _spoil_image(path: Path, how: str) -> str:
    """Damage a scan; return what the message must say."""
    volume = toy_brain(7, has_hole=False)
    if how == "missing":
        path.unlink()
        return "does not exist"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
        return "cannot be read"
    if how == "no image":
        path.write_bytes(gzip.compress(b"hello"))
        return "cannot be read"
    if how == "four dimensions":
        write_scan(path, np.stack([volume, volume], axis=-1))
        return "one 3D volume is needed"
    if how == "nan":
        volume[3, 3, 3] = np.nan
        write_scan(path, volume)
        return "1 NaN or infinite voxels"
    if how == "constant":
        write_scan(path, np.ones_like(volume))
        return "is constant"
    header = nibabel.load(path).header
    header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    header.set_qform(None, code=0)
    nibabel.save(nibabel.Nifti1Image(volume, None, header), path)
    return "affine that cannot be inverted"


@pytest.mark.parametrize(
    "how", ["missing", "truncated", "no image", "four dimensions", "nan", "constant", "singular affine"]
)
def test_a_bad_scan_is_named_in_one_line_and_nothing_is_written(fresh, capsys, how: str) -> None:
    table = write_cohort(fresh.source)
    message = _spoil_image(fresh.source / "sub03_M00.nii.gz", how)
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2
    assert len(errors) == 1 and "sub03_M00.nii.gz" in errors[0] and message in errors[0]
    assert _nothing_written(fresh)


def test_all_bad_scans_are_named_at_once(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    for number, how in ((3, "nan"), (5, "constant")):
        _spoil_image(fresh.source / f"sub{number:02d}_M00.nii.gz", how)
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2 and len(errors) == 2


def _edit(table: Path, old: str, new: str) -> None:
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sub03_M00.nii.gz,AD", "sub03_M00.nii.gz,", "1 scans have no diagnosis: sub03 M00"),
        ("sub03_M00.nii.gz,AD", "sub03_M00.nii.gz,MCI", "sub03 M00 has diagnosis 'MCI', which --label-map"),
        (",AD,", ",CN,", "at least two classes are needed"),
        ("sub03,M00,sub03_M00", "sub03,M00,sub05_M00", "hold the same image, under subjects sub03 and sub05"),
        ("sub03,M00,sub03", "sub05,M00,sub03", "two scans would become case sub05_M00"),
        (
            "AD,63",
            "AD,999",
            "sub03 M00 has age '999', which is no age in years; if it means",
        ),
        ("AD,63", "AD,-9", "sub03 M00 has age '-9', which is no age in years"),
        ("AD,63", "AD,630", "sub03 M00 has age '630', which is no age in years"),
        ("subject,session", "person,session", "no column of subjects"),
        ("sub03,M00", ",M00", "line 5: the subject"),
    ],
)
def test_a_bad_table_is_one_line_and_nothing_is_written(fresh, capsys, old: str, new: str, message: str) -> None:
    table = write_cohort(fresh.source)
    _edit(table, old, new)
    code, errors = _run(capsys, "--table", table, *LABELS, "--label-map", "CN=CN", "AD=AD")
    assert code == 2 and len(errors) == 1 and message in errors[0]
    assert _nothing_written(fresh)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "absent.csv", *LABELS], "absent.csv does not exist"),
        (["--target", "diagnosis"], "either --table or --bids"),
        (["--table", "TABLE"], "give one of --target"),
        (["--table", "TABLE", "--target", "diagnosys"], "did you mean 'diagnosis'"),
        (["--table", "TABLE", *LABELS, "--where", "Agee>3"], "no column 'Agee'; did you mean 'age'"),
        (["--table", "TABLE", *LABELS, "--where", "age>300"], "no scan is left"),
        (["--table", "TABLE", *LABELS, "--keep", "volume"], "--keep: the table has no column 'volume'"),
        (["--table", "TABLE", *LABELS, "--image-pattern", "{nobody}.nii.gz"], "no column 'nobody'"),
        (["--table", "TABLE", *LABELS, "--file-column", "file"], "no column 'file'"),
        (["--bids", "SOURCE", *LABELS], "participants.tsv does not exist"),
    ],
)
def test_impossible_requests_are_one_line(fresh, capsys, arguments: list[str], message: str) -> None:
    table = write_cohort(fresh.source)
    words = [word.replace("TABLE", str(table)).replace("SOURCE", str(fresh.source)) for word in arguments]
    code, errors = _run(capsys, *words)
    assert code == 2 and len(errors) == 1 and message in errors[0]
    assert _nothing_written(fresh)


def test_an_unset_variable_is_named(fresh, capsys, monkeypatch) -> None:
    table = write_cohort(fresh.source)
    monkeypatch.delenv("nnUNet_raw")
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2 and "nnUNet_raw is not set" in errors[0]


def test_an_existing_dataset_is_replaced_only_on_request_and_only_by_a_whole_one(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    assert _run(capsys, "--table", table, *LABELS)[0] == 0
    folder = fresh.raw / "Dataset009_Toy"
    before = (folder / "subjects.csv").read_bytes()
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2 and "--overwrite" in errors[0]
    (fresh.source / "sub03_M00.nii.gz").unlink()
    assert _run(capsys, "--table", table, *LABELS, "--overwrite")[0] == 2
    assert (folder / "subjects.csv").read_bytes() == before
    assert _run(capsys, "--table", table, *LABELS, "--overwrite", "--where", "subject!=sub03")[0] == 0
    assert len(pd.read_csv(folder / "subjects.csv")) == 16
    assert [path.name for path in fresh.raw.iterdir()] == ["Dataset009_Toy"]


def test_a_full_disk_is_one_line_and_leaves_nothing(fresh, small_disk, capsys, monkeypatch) -> None:
    table = write_cohort(fresh.source)
    monkeypatch.setenv("nnUNet_raw", str(small_disk))
    code, errors = _run(capsys, "--table", table, *LABELS, "--copy")
    assert code == 2 and len(errors) == 1 and "no space left on the disk" in errors[0]
    assert not list(small_disk.iterdir())


def test_real_scans_and_their_table_are_imported_by_rating(fresh, real_data, capsys) -> None:
    folder = real_data / "oasis1"
    code, _ = _run(
        capsys,
        *("--table", folder / "oasis1.csv", "--image-pattern", "images/{ID}.nii.gz", "--subject-column", "subject_id"),
        *("--from-cdr", "--where", "Age>=60", "--where", "session==MR1", "--keep", "nWBV", "--where", "ID<OAS1_0100"),
    )
    assert code == 2  # text has no order: such a filter leaves nothing
    code, _ = _run(
        capsys,
        *("--table", folder / "oasis1.csv", "--image-pattern", "images/{ID}.nii.gz", "--subject-column", "subject_id"),
        *("--from-cdr", "--where", "Age>=85", "--where", "session==MR1", "--keep", "nWBV"),
    )
    assert code == 0
    subjects = pd.read_csv(fresh.raw / "Dataset009_Toy" / "subjects.csv")
    assert set(subjects["diagnosis"]) == {"CN", "AD"}
    assert subjects["nWBV"].between(0.6, 0.9).all() and (subjects["age"] >= 85).all()
    shutil.rmtree(fresh.raw / "Dataset009_Toy")


def test_a_dicom_file_in_a_table_is_sent_to_the_converter(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    (fresh.source / "sub03_M00.dcm").write_bytes(bytes(128) + b"DICM")
    _edit(table, "sub03_M00.nii.gz", "sub03_M00.dcm")
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2 and len(errors) == 1 and "dcm2niix" in errors[0] and "sub03_M00.dcm" in errors[0]


def test_ids_of_one_person_in_two_cohorts_become_one_subject(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    people = fresh.source / "people.csv"
    people.write_text("person,first,second\nP1,sub02,sub04\n")
    code, _ = _run(capsys, "--table", table, *LABELS, "--extra-ids", people)
    assert code == 0
    subjects = pd.read_csv(fresh.raw / "Dataset009_Toy" / "subjects.csv", dtype=str).set_index("case_id")
    # the cases keep their names, and folds are made of people
    assert subjects.loc[["sub02_M00", "sub04_M00"], "subject_id"].tolist() == ["P1", "P1"]
    assert subjects["subject_id"].nunique() == 15


def test_one_session_written_in_two_ways_is_one_session(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    for label, message in (("CN", "two scans would become case"), ("AD", "sub00 M0 is CN by the row of")):
        write_cohort(fresh.source)
        _edit(table, "sub00,M12,sub00_M12.nii.gz,CN", f"sub00,M0,sub00_M12.nii.gz,{label}")
        code, errors = _run(capsys, "--table", table, *LABELS)
        assert code == 2 and len(errors) == 1 and message in errors[0]


def test_a_loni_download_and_adnimerge_become_a_dataset(fresh, capsys) -> None:
    rows, visits = [], ["RID,PTID,VISCODE,EXAMDATE,DX_bl,AGE,PTGENDER,SITE,FLDSTRENG,DX,Years_bl"]
    for index in range(4):
        subject, image = f"00{index}_S_000{index}", f"I4510{index}"
        diagnosis = ["CN", "Dementia"][index % 2]
        folder = fresh.source / "ADNI" / subject / "MPR" / "2006-11-02_08_16_44.0" / image
        write_scan(folder / f"ADNI_{subject}_MR_MPR_{image}.nii", toy_brain(index, has_hole=False))
        rows.append(f'"{image}","{subject}","Patient","M","71","m06","MRI","MPR","Processed","11/2/2006","NiFTI",""')
        visits.append(f"{index},{subject},bl,2006-05-02,CN,70,Male,{index},3 Tesla MRI,CN,0")
        visits.append(f"{index},{subject},m06,2006-11-02,CN,70,Male,{index},3 Tesla MRI,{diagnosis},0.5")
    header = "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded"
    for name, lines in (("list.csv", [header, *rows]), ("ADNIMERGE.csv", visits)):
        (fresh.source / name).write_text("\n".join(lines) + "\n")
    source = ("--loni", fresh.source / "list.csv", "--images", fresh.source / "ADNI", "-np", "1")
    clinical = ("--clinical", fresh.source / "ADNIMERGE.csv")
    code, _ = _run(capsys, *source, *clinical, "--target", "DX", "--label-map", "CN=CN", "AD,Dementia=AD")
    assert code == 0
    folder = fresh.raw / "Dataset009_Toy"
    subjects = pd.read_csv(folder / "subjects.csv", dtype=str)
    assert subjects["DX"].tolist() == ["CN", "AD", "CN", "AD"] and set(subjects["age"]) == {"70.5"}
    assert set(subjects["field_strength"]) == {"3.0"} and subjects["site"].tolist() == ["0", "1", "2", "3"]
    assert nibabel.load(folder / "imagesTr" / "000-S-0000_m06_0000.nii.gz").shape == (36, 40, 38)
    shutil.rmtree(folder)
    assert _run(capsys, *source, *clinical, "--target", "age", "--where", "RID<2")[0] == 2  # all of one age
    code, errors = _run(capsys, *source, "--target", "Group", "--max-days", "3")
    assert code == 2 and "--max-days goes with --clinical" in errors[0]


def test_guessing_names_the_layout_and_proposes_a_command_that_works(fresh, capsys) -> None:
    root = _bids_tree(fresh.source / "bids")
    assert import_dataset.main(["--guess", str(root)]) == 0
    text = capsys.readouterr().out
    assert (
        "BIDS tree, 7 subjects" in text and "age             'age', e.g. '60'" in text and "'group': 4 CN, 3 AD" in text
    )
    words = text.splitlines()[-1].removeprefix("try: adnext_import 101 NAME ").replace("'", "").split()
    assert _run(capsys, *words, "-np", "1")[0] == 0
    table = write_cohort(fresh.source / "cohort")
    assert import_dataset.main(["--guess", str(table.parent)]) == 0
    text = capsys.readouterr().out
    assert "folder of images, 17 files" in text and "file            'path'" in text
    words = text.splitlines()[-1].removeprefix("try: adnext_import 101 NAME ").replace("'", "").split()
    assert _run(capsys, *words, "-np", "1", "--overwrite")[0] == 0


def _with_sform(path: Path, scale: float) -> None:
    image = nibabel.load(path)
    image.set_sform(np.diag([2 * scale, 2 * scale, 2 * scale, 1]), code=1)
    image.header.set_zooms((2, 2, 2))
    nibabel.save(image, path)


def test_a_header_without_a_safe_reading_is_refused_until_the_user_has_looked(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    for name in ("sub03_M00", "sub05_M00"):
        _with_sform(fresh.source / f"{name}.nii.gz", 1.25)
    code, errors = _run(capsys, "--table", table, *LABELS)
    assert code == 2 and len(errors) == 1 and _nothing_written(fresh)
    assert "2 of 17 scans, the first" in errors[0] and "sub03_M00.nii.gz: size: voxels are of 2.5 × 2.5" in errors[0]
    assert "--accept size" in errors[0]
    assert _run(capsys, "--table", table, *LABELS, "--accept", "shape")[0] == 2
    assert _run(capsys, "--table", table, *LABELS, "--accept", "size")[0] == 0
    report = json.loads((fresh.raw / "Dataset009_Toy" / "import_report.json").read_text())
    assert report["headers"]["size"]["scans"] == 2 and report["headers"]["size"]["accepted"]
    assert any("2 scans, the first" in note and "(--accept size)" in note for note in report["notes"])


def test_what_has_a_safe_reading_is_said_with_the_count_and_the_first_file(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    for index in (2, 4):
        volume = toy_brain(index, has_hole=False)
        write_scan(fresh.source / f"sub{index:02d}_M00.nii.gz", np.where(volume == 0, np.nan, volume))
    assert import_dataset.main([*NAME, "--table", str(table), *LABELS, "--with-masks"]) == 0
    assert "2 scans, the first" in (out := capsys.readouterr().out) and "the background is NaN" in out
    mask = nibabel.load(fresh.raw / "Dataset009_Toy" / "labelsTr" / "sub02_M00.nii.gz").get_fdata()
    np.testing.assert_array_equal(mask > 0, toy_brain(2, has_hole=False) > 0)


def test_codes_dates_and_replacements_are_told_on_the_command_line(fresh, capsys) -> None:
    table = write_cohort(fresh.source)
    _edit(table, "AD,63,F", "AD,999,D")
    _edit(table, "AD,65", "AD,-9")
    assert _run(capsys, "--table", table, *LABELS)[0] == 2
    options = ["--missing", "-9", "age=999", "--covariate-map", "sex", "D=", "M=F", "--date-format", "day-first"]
    assert _run(capsys, "--table", table, *LABELS, *options)[0] == 0
    subjects = pd.read_csv(fresh.raw / "Dataset009_Toy" / "subjects.csv", dtype=str, keep_default_na=False)
    rows = subjects.set_index("case_id")
    assert rows.loc[["sub03_M00", "sub05_M00"], "age"].tolist() == ["", ""]
    assert rows.loc["sub03_M00", "sex"] == "" and set(rows["sex"]) == {"", "F"}
    code, errors = _run(capsys, "--table", table, *LABELS, "--covariate-map", "sex", "D", "--overwrite")
    assert code == 2 and "write CELL=VALUE" in errors[0]


def test_a_bids_tree_without_participants_is_imported_for_pretraining(fresh, capsys) -> None:
    root = fresh.source / "bids"
    for index in range(3):
        write_scan(root / f"sub-{index}" / "anat" / f"sub-{index}_T1w.nii.gz", toy_brain(index, has_hole=False))
    assert _run(capsys, "--bids", root, "--unlabelled", "-np", "1")[0] == 0
    code, errors = _run(capsys, "--bids", root, "--target", "dx", "-np", "1", "--overwrite")
    assert code == 2 and "no column 'dx' for sub-0" in errors[0]
