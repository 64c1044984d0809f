"""LONI downloads, ADNIMERGE, OASIS and IXI, with the headers and habits of the real tables."""

from pathlib import Path

import pandas as pd
import pytest

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.sources.loni import read_loni_source
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.joining import join_table
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.importing.targets import TargetRule

LONI = (
    '"Image Data ID","Subject","Group","Sex","Age","Visit","Modality","Description","Type","Acq Date","Format",'
    '"Downloaded"\n'
)
LONI_ROWS = (
    '"I45107","002_S_0295","CN","M","85","sc","MRI","MPR; GradWarp; B1 Correction; N3; Scaled","Processed",'
    '"4/18/2006","NiFTI","1/5/2020"\n'
    '"I4510","002_S_0413","CN","F","76","sc","MRI","MPR; GradWarp","Processed","5/2/2006","NiFTI",""\n'
    '"I45108","002_S_0295","CN","M","85","m06","MRI","MPR; GradWarp","Processed","11/2/2006","NiFTI",""\n'
    '"I60000","002_S_0413","CN","F","77","m12","MRI","MPR","Processed","5/4/2007","NiFTI",""\n'
    '"I70000","002_S_0413","CN","F","77","m12","PET","FDG","Processed","5/4/2007","NiFTI",""\n'
)
LONI_IMAGES = {
    "ADNI/002_S_0295/MPR____N3/2006-04-18_08_20_30.0/S13408/ADNI_002_S_0295_MR_MPR_Br_S13408_I45107.nii": "",
    "ADNI/002_S_0295/MPR__GradWarp/2006-11-02_08_16_44.0/I45108/ADNI_002_S_0295_MR_MPR_Br_2007_S21856_I45108.nii": "",
    "ADNI/002_S_0413/MPR__GradWarp/2006-05-02_12_31_52.0/I4510/ADNI_002_S_0413_MR_MPR_Br_S13893_I4510.nii": "",
    "ADNI/002_S_0559/MPR/2006-05-23_11_11_11.0/I99/x_I99.nii": "",
}
ADNIMERGE = (
    "RID,PTID,VISCODE,SITE,COLPROT,ORIGPROT,EXAMDATE,DX_bl,AGE,PTGENDER,PTEDUCAT,APOE4,CDRSB,MMSE,FLDSTRENG,"
    "IMAGEUID,Hippocampus,ICV,DX,Years_bl,Month_bl,Month,M\n"
    "295,002_S_0295,bl,2,ADNI1,ADNI1,2006-04-18,CN,84.8,Male,18,1,0,28,1.5 Tesla MRI,45107,7000,1500000,CN,0,0,0,0\n"
    "295,002_S_0295,m06,2,ADNI1,ADNI1,2006-11-06,CN,84.8,Male,18,1,0.5,28,1.5 Tesla MRI,45108,6900,1500000,MCI,"
    "0.553046,6.62295,6,6\n"
    "413,002_S_0413,bl,2,ADNI1,ADNI1,2006-05-02,CN,76.3,Female,16,0,0,-4,3 Tesla MRI,4510,-1,-1,CN,0,0,0,0\n"
    "413,002_S_0413,m12,2,ADNI1,ADNI1,2007-05-04,CN,76.3,Female,16,0,0,29,,,,,,1.004791,12.03279,12,12\n"
    "559,002_S_0559,bl,2,ADNI1,ADNI1,2006-05-23,CN,79.3,Male,16,0,0,30,,,,,CN,0,0,0,0\n"
)


@pytest.fixture
def adni(tree) -> Path:
    return tree({"list.csv": LONI + LONI_ROWS, "ADNIMERGE.csv": ADNIMERGE, **LONI_IMAGES})


def test_loni_images_are_found_by_their_whole_id(adni) -> None:
    source = read_loni_source(adni / "list.csv", adni / "ADNI")
    # I4510 is a part of I45107, and is not it
    found = {scan.row["Image Data ID"]: scan.image.name for scan in source.scans}
    assert set(found) == {"I4510", "I45107", "I45108"}
    assert all(name.endswith(f"_{image_id}.nii") for image_id, name in found.items())
    assert source.rows_without_image == ("I60000 (002_S_0413)",)
    assert [Path(path).name for path in source.images_without_row] == ["x_I99.nii"]
    assert source.notes == ("1 rows of other modalities than MRI were passed over",)


def test_a_list_without_the_letter_before_the_id_and_a_row_of_another_person(tree) -> None:
    rows = LONI_ROWS.splitlines(keepends=True)
    root = tree({"list.csv": LONI + rows[1].replace("I4510", "4510"), **LONI_IMAGES})
    assert len(read_loni_source(root / "list.csv", root / "ADNI").scans) == 1
    root = tree({"list.csv": LONI + rows[1].replace("002_S_0413", "002_S_0295")})
    with pytest.raises(TableError, match="gives image I4510 to 002_S_0295, but it lies at"):
        read_loni_source(root / "list.csv", root / "ADNI")


def test_a_download_in_dicom_is_sent_to_the_converter(tree) -> None:
    root = tree({"list.csv": LONI + LONI_ROWS, "ADNI/002_S_0295/MPRAGE/2006/I45107/slice.dcm": ""})
    with pytest.raises(PathsError, match=r"holds DICOM files, not NIfTI; .*dcm2niix"):
        read_loni_source(root / "list.csv", root / "ADNI")


def test_adnimerge_gives_each_scan_the_diagnosis_and_age_of_its_own_visit(adni) -> None:
    source = read_loni_source(adni / "list.csv", adni / "ADNI")
    joined = join_table(source, read_table(adni / "ADNIMERGE.csv"), by_time=False)
    cases = select_cases(joined, TargetRule(column="DX"), Choice()).cases
    found = {case.case_id: (case.target, case.covariates["age"], case.covariates["field_strength"]) for case in cases}
    assert found == {
        "002-S-0413_sc": ("CN", 76.3, 3.0),
        "002-S-0295_sc": ("CN", 84.8, 1.5),
        # 84.8 at entry, half a year later, four days before the visit; never the 84.8 that every row has
        "002-S-0295_m06": ("MCI", pytest.approx(84.8 + 0.553 - 4 / 365.25, abs=0.006), 1.5),
    }
    assert {case.covariates["sex"] for case in cases} == {"M", "F"}
    assert {scan.gap_days for scan in joined.scans} == {0, 4}
    assert [row for row in joined.rows_without_image if "ADNIMERGE" in row] == [
        "ADNIMERGE.csv: 002_S_0413 m12",
        "ADNIMERGE.csv: 002_S_0559 bl",
    ]


def test_the_nearest_visit_is_used_when_asked_for_and_only_if_near(adni) -> None:
    source = read_loni_source(adni / "list.csv", adni / "ADNI")
    merged = read_table(adni / "ADNIMERGE.csv")
    joined = join_table(source, merged, by_time=True, max_days=3)
    assert [scan.row["Image Data ID"] for scan in joined.scans] == ["I4510", "I45107"]
    assert any("I45108" in path for path in joined.images_without_row)
    joined = join_table(source, merged, by_time=True, max_days=30)
    closest = select_cases(joined, None, Choice(session="closest"))
    assert [case.case_id for case in closest.cases] == ["002-S-0413_sc", "002-S-0295_sc"]


def test_rows_of_one_visit_that_contradict_each_other_are_refused(adni) -> None:
    path = adni / "ADNIMERGE.csv"
    path.write_text(ADNIMERGE + ADNIMERGE.splitlines()[2].replace("MCI", "Dementia") + "\n")
    source = read_loni_source(adni / "list.csv", adni / "ADNI")
    with pytest.raises(TableError, match="two rows for 002_S_0295 m06 that differ in DX: 'MCI' and 'Dementia'"):
        join_table(source, read_table(path), by_time=False)


def test_oasis_3_scans_have_the_rating_of_the_nearest_visit_and_the_age_at_the_scan(tree) -> None:
    visits = [
        ("OASISID", "OASIS_session_label", "days_to_visit", "age at visit", "MMSE", "CDRSUM", "CDRTOT", "dx1"),
        ("OAS30001", "OAS30001_UDSb4_d0000", "0000", "65.15", "28", "0", "0", "Cognitively normal"),
        ("OAS30001", "OAS30001_UDSb4_d0339", "0339", "66.08", "28", "0.5", "0.5", "uncertain dementia"),
        ("OAS30002", "OAS30002_UDSb4_d2000", "2000", "72.66", "29", "0", "0", "Cognitively normal"),
    ]
    root = tree(
        {
            "OASIS3_UDSb4_cdr.csv": visits,
            "OASIS3_demographics.csv": [
                ("OASISID", "AgeatEntry", "GENDER"),
                ("OAS30001", "65.15", "2"),
                ("OAS30002", "67.19", "1"),
            ],
            **{
                f"sub-{name}/ses-{day}/anat/sub-{name}_ses-{day}_T1w.nii.gz": ""
                for name, day in (("OAS30001", "d0129"), ("OAS30001", "d0300"), ("OAS30002", "d0653"))
            },
        }
    )
    source = read_bids_source(BidsOptions(root=root))
    joined = join_table(source, read_table(root / "OASIS3_UDSb4_cdr.csv"), by_time=False)
    assert [(scan.session_id, scan.row["CDRTOT"], scan.gap_days) for scan in joined.scans] == [
        ("ses-d0129", "0", 129),
        ("ses-d0300", "0.5", 39),
    ]
    assert [float(scan.row["age_at_scan"]) for scan in joined.scans] == pytest.approx([65.50, 65.97], abs=0.01)
    assert any("OAS30002" in path for path in joined.images_without_row)
    described = join_table(source, read_table(root / "OASIS3_demographics.csv"), by_time=False)
    cases = select_cases(described, None, Choice()).cases
    assert [(case.covariates["age"], case.covariates["sex"]) for case in cases] == [
        (65.50, "F"),
        (65.97, "F"),
        (68.98, "M"),
    ]


def test_oasis_1_as_distributed_is_found_in_its_discs_and_split_into_subject_and_session(tree) -> None:
    header = ("ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay")
    rows = [
        ("OAS1_0001_MR1", "F", "R", "74", "2", "3", "29", "0", "1344", "0.743", "1.306", "N/A"),
        ("OAS1_0001_MR2", "F", "R", "74", "", "", "", "", "1344", "0.743", "1.306", "20"),
        ("OAS1_0010_MR1", "M", "R", "80", "2", "3", "20", "0.5", "1344", "0.7", "1.306", "N/A"),
    ]
    inner = "PROCESSED/MPRAGE/T88_111"
    root = tree(
        {
            "oasis_cross-sectional.csv": [header, *rows],
            **{
                f"{disc}/{name}/{inner}/{name}_mpr_n{repeats}_anon_111_t88_{kind}.img": ""
                for disc, name, repeats in (
                    ("disc1", "OAS1_0001_MR1", 4),
                    ("disc1", "OAS1_0001_MR2", 3),
                    ("disc2", "OAS1_0010_MR1", 4),
                )
                for kind in ("gfc", "masked_gfc")
            },
        }
    )
    source = read_table_source(TableOptions(table=root / "oasis_cross-sectional.csv", images=root))
    assert [str(scan) for scan in source.scans] == ["OAS1_0001 MR1", "OAS1_0001 MR2", "OAS1_0010 MR1"]
    assert all(scan.row["ID"] in scan.image.name and "masked" in scan.image.name for scan in source.scans)
    rule = TargetRule(column="CDR", is_cdr=True, classes=("CN", "AD"))
    cases = select_cases(source, rule, Choice(session="baseline")).cases
    assert [case.case_id for case in cases] == ["OAS1-0001_MR1", "OAS1-0010_MR1"]


def test_oasis_2_visits_are_sessions_of_one_person(tree) -> None:
    header = "Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF\n"
    rows = [
        f"OAS2_0010,OAS2_0010_MR{n},Converted,{n},{delay},F,R,{age},12,,29,{cdr},1300,0.7,1.3\n"
        for n, delay, age, cdr in ((1, 0, 66, 0), (2, 854, 68, 0.5))
    ]
    root = tree(
        {
            "oasis_longitudinal.csv": header + "".join(rows),
            **{f"OAS2_RAW_PART1/OAS2_0010_MR{n}/RAW/mpr-1.nifti.img": "" for n in (1, 2)},
        }
    )
    source = read_table_source(TableOptions(table=root / "oasis_longitudinal.csv", images=root))
    assert [str(scan) for scan in source.scans] == ["OAS2_0010 MR1", "OAS2_0010 MR2"]
    rule = TargetRule(column="CDR", is_cdr=True, classes=("CN", "AD"))
    assert [rule.target_of(scan) for scan in source.scans] == ["CN", "AD"]
    assert select_cases(source, None, Choice(session="baseline")).cases[0].case_id == "OAS2-0010_MR1"


def test_the_ixi_workbook_finds_the_images_by_number_and_not_by_part_of_one(tree) -> None:
    root = tree({"IXI012-HH-1211-T1.nii.gz": "", "IXI120-Guys-0828-T1.nii.gz": "", "IXI999-IOP-1-T1.nii.gz": ""})
    frame = pd.DataFrame(
        {
            "IXI_ID": [12, 120, 121],
            "SEX_ID (1=m, 2=f)": [1, 2, 2],
            "HEIGHT": [180, 170, 0],
            "STUDY_DATE": pd.to_datetime(["2005-12-01"] * 3),
            "AGE": [38.78, 24.5, None],
        }
    )
    frame.to_excel(root / "IXI.xlsx", index=False)
    source = read_table_source(TableOptions(table=root / "IXI.xlsx", images=root))
    assert [(scan.subject_id, scan.image.name) for scan in source.scans] == [
        ("IXI012", "IXI012-HH-1211-T1.nii.gz"),
        ("IXI120", "IXI120-Guys-0828-T1.nii.gz"),
    ]
    assert source.rows_without_image == ("line 4 (IXI121)",)
    assert [Path(path).name for path in source.images_without_row] == ["IXI999-IOP-1-T1.nii.gz"]
    covariates = [case.covariates for case in select_cases(source, None, Choice()).cases]
    assert covariates == [{"age": 38.78, "sex": "M"}, {"age": 24.5, "sex": "F"}]


def test_people_whose_ids_a_join_cannot_tell_apart_are_refused(tree) -> None:
    root = tree(
        {
            "t.csv": [("subject", "file"), ("a_b", "1.nii.gz"), ("ab", "2.nii.gz")],
            "c.csv": [("subject", "dx"), ("ab", "AD")],
        }
    )
    source = read_table_source(TableOptions(table=root / "t.csv"))
    with pytest.raises(TableError, match="subjects a_b and ab cannot be told apart"):
        join_table(source, read_table(root / "c.csv"), by_time=False)


def test_a_table_of_people_is_joined_by_subject_and_may_not_contradict_itself(tree) -> None:
    root = tree(
        {
            "t.csv": [("subject", "session", "file"), ("sub-1", "M12", "1.nii.gz"), ("sub-1", "M0", "2.nii.gz")],
            "people.csv": [("subject", "dx"), ("01", "AD"), ("01", "AD"), ("2", "CN")],
            "bad.csv": [("subject", "dx"), ("01", "AD"), ("01", "CN")],
        }
    )
    source = read_table_source(TableOptions(table=root / "t.csv"))
    joined = join_table(source, read_table(root / "people.csv"), by_time=False)
    assert [scan.row["dx"] for scan in joined.scans] == ["AD", "AD"]
    assert "people.csv: 2" in joined.rows_without_image
    with pytest.raises(TableError, match="two rows for 01 that differ in dx: 'AD' and 'CN'"):
        join_table(source, read_table(root / "bad.csv"), by_time=False)
