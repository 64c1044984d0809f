"""The quality page at work in a browser, and its list of cases to exclude on the way back into the import."""

import io
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, seen
from PIL import Image

from adnext_plugin.cli import import_dataset, quality
from adnext_plugin.quality import suspicion
from adnext_plugin.quality.thumbnails import EDGE_PIXELS, thumbnails

LOOK = """
    const cases = [...document.querySelectorAll('.case')]
    const visible = () => cases.filter(one => one.checkVisibility()).length
    const choose = (id, value) => {
        const field = document.getElementById(id)
        field.value = value
        field.dispatchEvent(new Event('change', {bubbles: true}))
    }
    const left = () => {
        const plane = document.querySelector('.sides')
        const box = plane.getBoundingClientRect(), letter = plane.querySelector('.first').getBoundingClientRect()
        return [letter.left - box.left < box.width / 2, getComputedStyle(plane.querySelector('img')).transform]
    }
    const said = {cases: cases.length, before: left(), shown: visible(), href: document.getElementById('save').href}
    choose('group', 'AD')
    said.patients = visible()
    choose('group', '')
    choose('kind', 'any')
    said.reasons = visible()
    choose('kind', '')
    choose('convention', 'radiological')
    said.after = left()
    for (const one of cases) if (TICKED.includes(one.dataset.case)) one.querySelector('input').click()
    said.list = decodeURIComponent(document.getElementById('save').href.split(',').slice(1).join(','))
    said.count = document.getElementById('count').textContent
    said.alts = [...document.images].map(image => image.alt)
    said.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth
    return said
"""


@needs_chromium
def test_cases_are_filtered_turned_and_listed_in_a_browser_and_the_list_is_excluded_by_the_import(
    toy, tmp_path: Path, capsys, monkeypatch
) -> None:
    assert quality.main(["-d", "301", "-np", "1"]) == 0
    page = (toy.preprocessed / "Dataset301_Toy" / "quality" / "quality.html").read_text()
    said = seen(page, tmp_path, LOOK.replace("TICKED", "['sub05_M00', 'sub00_M12']"), size="390,800")
    assert said["cases"] == said["shown"] == 17 and said["patients"] == 8 and said["href"] == ""
    assert said["reasons"] == page.count('class="case suspicious"')
    assert said["before"] == [True, "none"] and said["after"] == [False, "matrix(-1, 0, 0, 1, 0, 0)"]
    assert said["count"] == "17 of 17 shown, 2 to exclude" and said["wide"] <= 0
    assert len(said["alts"]) == 3 * 17 and all("plane" in alt for alt in said["alts"])
    assert sum("nothing stands out" in alt for alt in said["alts"]) == 17 - said["reasons"]

    listed = tmp_path / "exclude.csv"
    listed.write_text(said["list"], encoding="utf-8")
    assert {line.split(",")[0] for line in said["list"].splitlines()[1:]} == {"sub05_M00", "sub00_M12"}
    capsys.readouterr()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    command = ["302", "Rest", "--table", str(toy.source / "table.csv"), "--target", "diagnosis", "-np", "1"]
    assert import_dataset.main([*command, "--exclude", str(listed)]) == 0
    assert "--exclude: 2" in capsys.readouterr().out
    scans = {path.name for path in (tmp_path / "raw" / "Dataset302_Rest" / "imagesTr").iterdir()}
    assert len(scans) == 15 and not scans & {"sub05_M00_0000.nii.gz", "sub00_M12_0000.nii.gz"}
    assert "sub00_M00_0000.nii.gz" in scans  # the other session of a person


def test_what_a_spreadsheet_would_run_is_text_in_the_list() -> None:
    from adnext_plugin.quality.sheet import _csv_line

    assert _csv_line(['=1+1,"x"', "a", "-3"]) == '"\'=1+1,""x""",a,-3'


def test_every_reason_has_a_kind_and_can_be_told_from_the_next() -> None:
    reasons = [number.reason for number in (*suspicion.NUMBERS, *suspicion.OF_WARP)]
    reasons += [suspicion.HEAD, suspicion.FLIPPED, f"{suspicion.SAME}x", f"{suspicion.ALIKE}x"]
    assert all(suspicion.kind_of(reason) for reason in reasons)
    assert len({suspicion.kind_of(reason) for reason in reasons}) == len(reasons) - 1  # two of likeness to a case
    assert not any(suspicion.JOINT in reason for reason in reasons)


def test_the_patients_left_is_on_the_left_and_the_front_on_the_right(tmp_path: Path) -> None:
    volume_zyx = np.ones((20, 20, 20), np.float32)
    volume_zyx[:, :, :10] = 2  # left
    volume_zyx[:, 10:] += 4  # front
    axial, coronal, sagittal = (
        np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(float)
        for picture in thumbnails(volume_zyx, tmp_path / "none.nii.gz", None)
    )
    half = EDGE_PIXELS // 2
    for plane in (axial, coronal):
        assert plane.shape == (EDGE_PIXELS, EDGE_PIXELS) and plane[:, :half].mean() > plane[:, half:].mean() + 20
    assert axial[:half].mean() > axial[half:].mean() + 20  # the front on top
    assert sagittal[:, half:].mean() > sagittal[:, :half].mean() + 20


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_page_has_a_choice_of_classes_where_there_are_some(kind: str, tmp_path: Path) -> None:
    import pandas as pd

    from adnext_plugin.quality.measurements import Measurements
    from adnext_plugin.quality.sheet import write_report
    from adnext_plugin.task import Task

    task = (
        Task(name="X", target="y", classes=("CN<", "AD"))
        if kind == "classes"
        else Task(name="X", kind="regression", target="y")
    )
    subjects = pd.DataFrame({"case_id": ["a", "b"], "subject_id": ["a", "=b"], "session_id": "", "y": ["CN<", "AD"]})
    picture = thumbnails(np.ones((4, 4, 4), np.float32), tmp_path / "none.nii.gz", None)
    cases = [
        Measurements(
            case=name,
            brain_litres=1.234,
            has_mask=name == "a",
            is_head=False,
            skewness=0.0,
            stretch_zyx=(1, 1, 1),
            share_cut_off=0.0,
            coarse_zyx=np.ones((24, 24, 24), np.float16) * np.arange(24),
            planes=picture,
        )
        for name in "ab"
    ]
    table = suspicion.find_suspicious(cases, {"a": "a", "b": "=b"})
    sheet, _ = write_report(table, cases, subjects, task, tmp_path / "Dataset001_X" / "quality")
    page = sheet.read_text()
    assert ('id="group"' in page) == (kind == "classes") and "CN<" not in page.replace("data-", "")
    assert "1.23 litres (within the brain&#39;s mask" in page and "1.23 litres (all that is not background)" in page
    assert page.count("the same scan as") >= 2
