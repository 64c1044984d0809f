"""Several images of a session as channels: which belong together in each source, and what is missing or not theirs."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from adnext_plugin.choices import MissingChannel
from adnext_plugin.errors import AdnextError, PathsError, SettingsError, TableError
from adnext_plugin.importing.channels import parse_channels
from adnext_plugin.importing.inclusion import Choice, Selection, select_cases
from adnext_plugin.importing.scans import Source
from adnext_plugin.importing.sources import bids_tables
from adnext_plugin.importing.tables.cells import Condition
from adnext_plugin.workflows.import_source import SourceChoice, TargetChoice, check_choices, read_source

T1, FLAIR = "T1=T1w", "FLAIR=FLAIR"


def _bids(*names: str, folder: str = "anat") -> dict[str, str]:
    files = {"participants.tsv": "participant_id\tage\nsub-A\t70\nsub-B\t71\nsub-C\t72\n"}
    for name in names:
        subject, session = name.split("_")[:2]
        files[f"{subject}/{session}/{folder}/{name}.nii.gz"] = ""
    return files


def _read(channels: Iterable[str], **source: object) -> Source:
    return read_source(SourceChoice(channels=tuple(channels), **source), by_time=False)  # type: ignore[arg-type]


def _selected(source: Source, how: MissingChannel = "refuse") -> Selection:
    return select_cases(source, None, Choice(missing_channel=how))


def _names(source: Source) -> dict[str, list[str | None]]:
    return {
        str(scan): [image and image.name for image in (scan.image, *scan.further)]  # type: ignore[misc]
        for scan in source.scans
    }


def test_images_of_one_session_of_a_bids_tree_belong_together(tree) -> None:
    root = tree(
        _bids(
            *("sub-A_ses-1_T1w", "sub-A_ses-1_FLAIR", "sub-A_ses-2_T1w", "sub-A_ses-2_FLAIR"),
            *("sub-B_ses-1_run-2_FLAIR", "sub-B_ses-1_run-1_FLAIR", "sub-B_ses-1_T1w", "sub-C_ses-1_FLAIR"),
        )
    )
    source = _read([T1, FLAIR], bids=root)
    assert source.channels == ("T1", "FLAIR")
    assert _names(source) == {
        "sub-A ses-1": ["sub-A_ses-1_T1w.nii.gz", "sub-A_ses-1_FLAIR.nii.gz"],
        "sub-A ses-2": ["sub-A_ses-2_T1w.nii.gz", "sub-A_ses-2_FLAIR.nii.gz"],
        "sub-B ses-1": ["sub-B_ses-1_T1w.nii.gz", "sub-B_ses-1_run-1_FLAIR.nii.gz"],
    }
    assert [Path(path).name for path in source.unused_images] == [
        "sub-B_ses-1_run-2_FLAIR.nii.gz",
        "sub-C_ses-1_FLAIR.nii.gz",
    ]
    assert "1 sessions have FLAIR without T1 and were passed over, the first sub-C ses-1" in source.notes
    # a channel without "=" is called as what it is found by
    assert _read(["T1w", "FLAIR"], bids=root).channels == ("T1w", "FLAIR")


def test_tables_of_a_bids_tree_are_read_once_for_all_channels(tree, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _bids("sub-A_ses-1_T1w", "sub-A_ses-1_FLAIR", "sub-A_ses-1_T2w")
    tables = {
        "sub-A/sub-A_sessions.tsv": "session_id\tmmse\nses-1\t29\n",
        "sub-A/ses-1/sub-A_ses-1_scans.tsv": "filename\tacq_time\nanat/sub-A_ses-1_T1w.nii.gz\t2020-05-06\n",
    }
    root = tree({**images, **tables})
    read: list[str] = []
    read_rows = bids_tables.read_rows
    monkeypatch.setattr(bids_tables, "read_rows", lambda path: (read.append(path.name), read_rows(path))[1])
    source = _read([T1, FLAIR, "T2=T2w"], bids=root)
    assert source.scans[0].row["mmse"] == "29" and len(source.scans[0].further) == 2
    assert sorted(read) == ["participants.tsv", "sub-A_ses-1_scans.tsv", "sub-A_sessions.tsv"]


def test_ends_of_names_choose_among_images_of_a_channel(tree) -> None:
    root = tree(_bids("sub-A_ses-1_T1w", "sub-A_ses-1_acq-fast_FLAIR", "sub-A_ses-1_acq-3d_FLAIR"))
    with pytest.raises(TableError, match=r"differ in acq: .*--channel FLAIR=\.\.\.acq-3d_FLAIR or"):
        _read([T1, FLAIR], bids=root)
    source = _read([T1, "FLAIR=acq-3d_FLAIR"], bids=root)
    assert _names(source)["sub-A ses-1"][1] == "sub-A_ses-1_acq-3d_FLAIR.nii.gz"
    # with a preference, as --entity has it
    source = _read([T1, "FLAIR=acq-4d,fast_FLAIR"], bids=root)
    assert _names(source)["sub-A ses-1"][1] == "sub-A_ses-1_acq-fast_FLAIR.nii.gz"
    with pytest.raises(PathsError, match=r"_T2w.nii.gz; is --channel T2 right\?"):
        _read([T1, "T2=T2w"], bids=root)


def test_a_missing_channel_is_refused_left_out_or_noted(tree) -> None:
    root = tree(_bids("sub-A_ses-1_T1w", "sub-A_ses-1_FLAIR", "sub-B_ses-1_T1w", "sub-C_ses-1_T1w"))
    source = _read([T1, FLAIR], bids=root)
    with pytest.raises(TableError, match=r"FLAIR of 2 of 3 scans, the first sub-B ses-1; .*--missing-channel zero"):
        _selected(source)
    left = _selected(source, "leave-out")
    assert [case.case_id for case in left.cases] == ["sub-A_ses-1"]
    assert left.left_out == {"--missing-channel leave-out": 2}
    filled = _selected(source, "zero")
    assert [case.scan.further[0] is None for case in filled.cases] == [False, True, True]
    assert any("has_FLAIR" in note for note in filled.notes)
    # whoever is left out by other rules need not have it
    others = Choice(conditions=[Condition.parse("age<71")])
    assert [case.case_id for case in select_cases(source, None, others).cases] == ["sub-A_ses-1"]


def test_a_channel_that_nobody_has_is_a_mistake_whatever_is_done_with_missing_ones(tree) -> None:
    root = tree(
        {
            **{f"{name}.nii.gz": "" for name in ("a", "b")},
            "scans.csv": [("subject", "t1", "flair"), ("A", "a.nii.gz", ""), ("B", "b.nii.gz", "n/a")],
        }
    )
    source = _read(["T1=t1", "FLAIR=flair"], table=root / "scans.csv")
    for how in ("leave-out", "zero"):
        with pytest.raises(TableError, match="no scan has an image of FLAIR"):
            _selected(source, how)  # type: ignore[arg-type]


def test_a_table_has_columns_or_patterns_of_channels(tree) -> None:
    files = {f"{person}_{kind}.nii.gz": "" for person in ("p1", "p2") for kind in ("t1", "flair", "t2")}
    del files["p2_t2.nii.gz"]
    table = [("subject", "anatomy", "flair"), ("p1", "p1_t1.nii.gz", "p1_flair.nii.gz"), ("p2", "p2_t1.nii.gz", "")]
    root = tree({**files, "scans.csv": table})
    given = ["T1=anatomy", "FLAIR=flair", "T2={subject}_t2.nii.gz", "T2star={subject}_*flair.nii.gz"]
    source = _read(given, table=root / "scans.csv")
    assert _names(source) == {
        "p1": ["p1_t1.nii.gz", "p1_flair.nii.gz", "p1_t2.nii.gz", "p1_flair.nii.gz"],
        "p2": ["p2_t1.nii.gz", None, None, "p2_flair.nii.gz"],
    }
    assert not source.images_without_row
    for wrong, words in (
        ("FLAIR=flare", r"--channel FLAIR=flare: the table has no such column; did you mean 'flair'\?"),
        ("FLAIR={person}.nii.gz", "--channel FLAIR: the table has no column 'person'"),
        ("FLAIR=/data/{subject}.nii.gz", "--channel FLAIR .* must start from the folder of images"),
    ):
        with pytest.raises(TableError, match=words):
            _read(["T1=anatomy", wrong], table=root / "scans.csv")


def test_images_of_different_people_in_one_row_are_named(tree) -> None:
    names = ("OAS1_0001_MR1_t1.nii.gz", "OAS1_0002_MR1_flair.nii.gz", "OAS1_0001_flair.nii.gz", "x.nii.gz")
    rows = [("subject", "t1", "flair"), ("1", names[0], names[1])]
    root = tree({**dict.fromkeys(names, ""), "scans.csv": rows})
    given = ["T1=t1", "FLAIR=flair"]
    with pytest.raises(TableError, match=r"1: by their names T1 \(OAS1_0001_MR1.*and FLAIR .* different people"):
        _selected(_read(given, table=root / "scans.csv"))
    for own in names[2:]:  # another spelling, and a name that says nothing
        (root / "scans.csv").write_text(f"subject,t1,flair\n1,{names[0]},{own}\n")
        assert len(_selected(_read(given, table=root / "scans.csv")).cases) == 1


def test_images_of_a_visit_of_lonis_list_are_told_apart_by_their_description(tree) -> None:
    rows = [("Image Data ID", "Subject", "Visit", "Modality", "Description", "Acq Date")]
    images = {}
    for number, (visit, description) in enumerate(
        [("bl", "MPRAGE"), ("bl", "Sag 3D FLAIR"), ("bl", "MPRAGE Repeat"), ("m12", "MPRAGE"), ("m12", "Axial PD")]
    ):
        rows.append((f"I{number}00", "002_S_0295", visit, "MRI", description, "1/2/2006"))
        images[f"ADNI/002_S_0295/x/2006/I{number}00/scan_I{number}00.nii"] = ""
    root = tree({"list.csv": rows, **images})
    source = _read(["T1=MPRAGE", "FLAIR=Description~flair"], loni=root / "list.csv", images=root)
    selection = _selected(source, "zero")
    found = {case.case_id: [case.scan.image, *case.scan.further] for case in selection.cases}
    assert {case: [image and image.stem for image in two] for case, two in found.items()} == {
        "002-S-0295_bl": ["scan_I000", "scan_I100"],
        "002-S-0295_m12": ["scan_I300", None],
    }
    assert {Path(path).stem for path in (*source.unused_images, *selection.unused_images)} == {"scan_I200", "scan_I400"}
    with pytest.raises(TableError, match="--channel T2: no image of the list has Description~T2"):
        _read(["T1=MPRAGE", "T2"], loni=root / "list.csv", images=root)
    # images of a visit that are no repeats of each other
    with pytest.raises(TableError, match=r"images of all that differ in Description: .*--channel 'all=Description=="):
        _read(["T1=MPRAGE", "all=Subject~002"], loni=root / "list.csv", images=root)


SEGMENTED = "subjects/sub-A/ses-M000/t1/spm/segmentation/normalized_space/sub-A_ses-M000"
DARTEL = "subjects/sub-A/ses-M000/t1/spm/dartel/group-{}/sub-A_ses-M000_T1w"
GREY = "segm-graymatter_space-Ixi549Space_modulated-{}{}_probability.nii.gz"


def _caps(*groups: str) -> dict[str, str]:
    """What Clinica's t1-volume leaves of one person."""
    files = {f"caps/{SEGMENTED}_space-Ixi549Space_T1w.nii.gz": ""}
    for name in ("segm-graymatter", "segm-whitematter"):
        file = GREY.format("off", "").replace("segm-graymatter", name)
        files[f"caps/{SEGMENTED}_T1w_{file}"] = ""
    files[f"caps/{SEGMENTED}_T1w_target-Ixi549Space_transformation-forward_deformation.nii.gz"] = ""
    for group in groups:
        for smooth in ("", "_fwhm-8mm"):
            files[f"caps/{DARTEL.format(group)}_{GREY.format('on', smooth)}"] = ""
        files[f"caps/{DARTEL.format(group)}_target-{group}_transformation-forward_deformation.nii.gz"] = ""
    files["bids/participants.tsv"] = "participant_id\tage\nsub-A\t70\n"
    files["bids/sub-A/ses-M000/anat/sub-A_ses-M000_T1w.nii.gz"] = ""
    return files


def _read_caps(root: Path, *channels: str, **options: object) -> Source:
    return _read(channels, bids=root / "bids", caps=root / "caps", caps_pipeline="t1-volume", **options)


def test_clinicas_normalised_image_and_modulated_grey_matter_import_as_they_are(tree) -> None:
    root = tree(_caps("ADCN"))
    alone = _read_caps(root)
    assert [scan.image.name for scan in alone.scans] == ["sub-A_ses-M000_space-Ixi549Space_T1w.nii.gz"]
    two = _read_caps(root, "T1=T1w", "grey=segm-graymatter_modulated-on_fwhm-none_probability")
    ((scan,),) = [two.scans]
    assert scan.further[0] is not None and scan.row["age"] == "70"
    assert scan.further[0].parent.name == "group-ADCN" and "fwhm" not in scan.further[0].name
    # grey matter alone, by the options of one image
    grey = _read_caps(root, suffix="probability", entities=("segm=graymatter", "modulated=on", "fwhm=8mm"))
    assert [scan.image.name for scan in grey.scans] == [f"sub-A_ses-M000_T1w_{GREY.format('on', '_fwhm-8mm')}"]


def test_templates_of_two_groups_are_told_apart(tree) -> None:
    root = tree(_caps("ADCN", "all"))
    wanted = "segm-graymatter_modulated-on_fwhm-none_probability"
    with pytest.raises(TableError, match=r"differ in group: .*--channel grey=\.\.\.group-ADCN_probability or"):
        _read_caps(root, "T1=T1w", f"grey={wanted}")
    source = _read_caps(root, "T1=T1w", f"grey=group-all_{wanted}")
    assert source.scans[0].further[0] is not None and source.scans[0].further[0].parent.name == "group-all"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["T1=T1w", "t1=FLAIR"], "there are 2 of this name"),
        (["T1 w=T1w"], "a name of letters and digits"),
        (["T1="], "write NAME=PATTERN"),
    ],
)
def test_channels_that_cannot_be_read_are_one_line(items: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_channels(items)


def test_an_end_of_a_name_needs_a_suffix(tree) -> None:
    root = tree(_bids("sub-A_ses-1_T1w"))
    with pytest.raises(SettingsError, match="write how names end"):
        _read(["T1=acq-fast"], bids=root)


@pytest.mark.parametrize("other", [{"image_pattern": "{ID}.nii"}, {"suffix": "FLAIR"}, {"columns": {"file": "path"}}])
def test_two_ways_of_saying_where_images_are_do_not_go_together(other: dict) -> None:
    target = TargetChoice(unlabelled=True)
    with pytest.raises(AdnextError, match="--channel says where the images of each channel are"):
        check_choices(SourceChoice(table=Path("t.csv"), channels=(T1, FLAIR), **other), target)
