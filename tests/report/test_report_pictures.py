"""Pictures of brains in the report: whose means, which cases, and what is said where there are none."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import Trained
from PIL import Image

from adnext_plugin.cli import report
from adnext_plugin.report.brains import EDGE_PIXELS, BrainPictures, SureCase, brains

DATASET, TRAINER = "Dataset301_Toy", "ADNeXtTrainer_T"


def _picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)


def _cube(value: float, *, bright_left: bool = False) -> np.ndarray:
    volume = np.zeros((20, 20, 20), np.float32)
    volume[4:16, 4:16, 4:16] = value
    if bright_left:
        volume[4:16, 4:16, 4:10] = value + 2
    return volume


def test_means_their_difference_and_the_surest_cases_are_drawn_upright_with_words_beside() -> None:
    means = (("CN", 3, _cube(1.0)), ("AD", 4, _cube(1.0, bright_left=True)))
    sure = (SureCase(volume_zyx=_cube(1.0), true="AD", called="CN", probability=0.93),)
    section = brains(BrainPictures(means=means, sure=sure, flagged=2))
    assert [figure.key for figure in section.figures] == ["mean-0", "mean-1", "difference", "sure-0"]
    assert section.figures[0].caption == "Mean of 3 prepared scans, CN."
    assert section.figures[3].caption.startswith("AD, wrongly called CN with 93%")
    assert "2 prepared scans stand out" in section.paragraphs[-1]
    shown = _picture(section.figures[2].uri)
    assert shown.shape == (EDGE_PIXELS, 3 * EDGE_PIXELS, 3)
    axial = shown[EDGE_PIXELS // 2, :EDGE_PIXELS]
    left, right = axial[EDGE_PIXELS * 6 // 20], axial[EDGE_PIXELS * 14 // 20]
    assert left[0] > left[2] + 50 and abs(right - right.mean()).max() < 30  # red, and white where nothing differs
    assert shown[2, 2].max() < 20
    assert all(figure.text and figure.caption for figure in section.figures)


def test_a_report_shows_mean_brains_and_the_surest_cases_and_no_id(trained: Trained) -> None:
    assert report.main(["301", "-tr", TRAINER]) == 0
    page = (trained.run / "crossval_results" / "report.html").read_text()
    shown = re.findall(r'<figure id="figure-((?:mean|difference|sure)[-\d]*)">', page)
    predictions = pd.read_csv(trained.run / "crossval_results" / "predictions.csv")
    called = predictions[["prob_CN", "prob_AD"]].idxmax(axis=1)
    kinds = len(set(zip(predictions["target"], called, strict=True)))
    assert shown == ["mean-0", "mean-1", "difference", *(f"sure-{index}" for index in range(kinds))]
    assert "Mean of 9 prepared scans, CN." in page and "Mean of 8 prepared scans, AD." in page
    assert "From scans to subjects: 17 scans found; 17 cases; 16 subjects." in page
    assert not re.search(r"sub\d\d", re.sub(r'src="[^"]*"', "", page))
    assert re.search(r"of 100 AD \d+ are found, and of 100 CN \d+ are wrongly called AD", page)


def test_a_report_without_volumes_says_so(trained: Trained, tmp_path: Path, monkeypatch) -> None:
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(trained.workspace.preprocessed, preprocessed)
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    page = tmp_path / "report.html"
    (volume, *_) = sorted((preprocessed / DATASET / "ADNeXtPlans_3d_fullres").glob("*.b2nd"))
    volume.write_bytes(b"damaged")
    # a run on other data than there are now is refused as a whole; a volume that goes while its page is made is not
    monkeypatch.setattr("adnext_plugin.evaluation.subjects.fold_files.refuse_other_data", lambda *_: None)
    assert report.main(["301", "-tr", TRAINER, "-o", str(page)]) == 0
    assert (
        "No pictures of scans: a prepared volume is not there, or damaged." in page.read_text()
        and "figure-mean" not in page.read_text()
    )
