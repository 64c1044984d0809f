"""The report of a run of made-up predictions: its numbers, its figures, and that a browser shows them unaided."""

import html
import json
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browser import needs_chromium, run
from conftest import Workspace, empty_workspace
from sklearn.metrics import precision_recall_curve, roc_auc_score

from adnext_plugin.cli import compare, evaluate, report
from adnext_plugin.evaluation.scores.curves import GRID, precision_recall_band, roc_band
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples
from adnext_plugin.files import write_json
from adnext_plugin.plan import NetworkSettings, Plan
from adnext_plugin.records import to_json
from adnext_plugin.run_records import FoldSummary, Provenance, RunInfo, write_run_info, write_summary
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.task import Task

DATASET, TRAINER = "Dataset401_Made", "ADNeXtTrainer_T"
PEOPLE = 160
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OF_EVERY_RUN = {"learning", "subgroups", "baselines"}
OF_CLASSES = OF_EVERY_RUN | {"roc", "precision-recall", "confusion"}
OF_TWO_CLASSES = OF_CLASSES | {"dots", "reliability", "decision"}
TASKS = {
    "two": Task(name="Made", target="diagnosis", classes=("CN", "AD")),
    "three": Task(name="Made", target="diagnosis", classes=("CN", "MCI", "AD")),
    "number": Task(name="Made", kind="regression", target="mmse"),
}


def _write_run(workspace: Workspace, task: Task, protocol: str) -> None:
    """Everything that training leaves behind, with predictions that are right more often than not."""
    generator = np.random.default_rng(0)
    ids = [f"person{index:03d}" for index in range(PEOPLE)]
    answer = generator.normal(25, 3, PEOPLE)
    if task.classes:
        answer = np.array(task.classes)[np.arange(PEOPLE) % len(task.classes)]
    subjects = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": "M00", task.target: answer})
    subjects["age"] = generator.uniform(61, 78, PEOPLE).round(1)
    subjects["sex"] = np.where(np.arange(PEOPLE) % 7 < 3, "M", "F")
    subjects["site"] = np.where(np.arange(PEOPLE) < 12, "Small<b>", "Large")
    folder = workspace.preprocessed / DATASET
    folder.mkdir()
    write_json({"adnext": to_json(task)}, folder / "dataset.json")
    subjects.to_csv(folder / "subjects.csv", index=False)
    splits = ensure_splits(folder, subjects, task)
    run = workspace.results / DATASET / f"{TRAINER}__ADNeXtPlans__3d_fullres"
    plan = Plan(network=NetworkSettings(name="adnext_t"), prepared_by="nnunet", task=task)
    plans = {"configurations": {"3d_fullres": {"adnext": to_json(plan), "data_identifier": "x"}}}
    for fold, parts in enumerate(splits):
        validation = run / f"fold_{fold}" / "validation"
        validation.mkdir(parents=True)
        rows = subjects[subjects["case_id"].isin([*parts["val"], *parts["selection"]])]
        table = rows[["case_id", "subject_id", "session_id"]].assign(
            fold=fold, part=np.where(rows["case_id"].isin(parts["val"]), "val", "selection"), target=rows[task.target]
        )
        if task.classes:
            logits = generator.normal(0, 1, (len(rows), len(task.classes)))
            logits += 1.2 * (rows[task.target].to_numpy()[:, None] == np.array(task.classes))
            odds = np.exp(logits)
            for index, name in enumerate(task.classes):
                table[f"logit_{name}"] = logits[:, index]
                table[f"prob_{name}"] = odds[:, index] / odds.sum(axis=1)
        else:
            table["prediction"] = rows[task.target] + generator.normal(0, 2, len(rows))
        table.to_csv(validation / "predictions.csv", index=False)
        if len(task.classes) == 2:
            _write_metered_epochs(table[table["part"] == "val"], validation.parent / "inflation_meter")
        settings = TrainerSettings(protocol=protocol)
        summary = FoldSummary(
            trainer="Made",
            protocol=protocol,
            fold=fold,
            epochs=4,
            best_epoch=2,
            evaluated_checkpoint="checkpoint_best.pth",
            seed=42,
            warning=settings.warnings[0] if settings.warnings else None,
        )
        write_summary(summary, validation / "summary.json")
        made_with = Provenance(**dict.fromkeys(Provenance.__dataclass_fields__, "2") | {"commit": "abc"})
        write_run_info(RunInfo(settings=to_json(settings), provenance=made_with), run / f"fold_{fold}" / "run.json")
        logging = {"train_losses": [0.8, 0.6, 0.5, 0.4], "val_losses": [0.8, 0.7, 0.6, 0.65]}
        torch.save({"network_weights": {}, "logging": logging}, run / f"fold_{fold}" / "checkpoint_final.pth")
    write_json(plans, run / "plans.json")
    write_json({}, run / "dataset.json")


def _write_metered_epochs(held_out: pd.DataFrame, folder: Path) -> None:
    """One epoch as it was evaluated, and one that is always right."""
    folder.mkdir()
    held_out.to_csv(folder / "epoch_0.csv", index=False)
    risk = np.where(held_out["target"] == "AD", 0.9, 0.1)
    held_out.assign(prob_AD=risk, prob_CN=1 - risk).to_csv(folder / "epoch_1.csv", index=False)


@dataclass(frozen=True)
class Reported:
    """A page, and the metrics it is on."""

    page: str
    metrics: dict


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reported]:
    """The report of a kind of task, made once; that of three classes under the paper's protocol."""
    return cache(lambda kind: _report(kind, empty_workspace(tmp_path_factory.mktemp(kind))))


def _report(kind: str, workspace: Workspace) -> Reported:
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        _write_run(workspace, TASKS[kind], protocol="paper" if kind == "three" else "honest")
        assert evaluate.main(["401", "-tr", TRAINER, "--resamples", "200"]) == 0
        path = workspace.results / "report.html"
        options = _comparison_with_itself(workspace) if kind == "two" else []
        assert report.main(["401", "-tr", TRAINER, "-o", str(path), *options]) == 0
    return Reported(path.read_text(), json.loads(next(workspace.results.rglob("metrics.json")).read_text()))


def _comparison_with_itself(workspace: Workspace) -> list[str]:
    folder, path = workspace.results / DATASET, workspace.results / "comparison.json"
    shutil.copytree(folder / f"{TRAINER}__ADNeXtPlans__3d_fullres", folder / "Copy__ADNeXtPlans__3d_fullres")
    assert compare.main(["401", TRAINER, "Copy", "--resamples", "100", "-o", str(path)]) == 0
    return ["--comparison", str(path)]


def _text_of(page: str, section: str) -> str:
    found = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)
    return html.unescape(re.sub(r"<img[^>]*>|<[^>]+>", " ", found[1]))


@pytest.mark.parametrize(
    ("kind", "figures"),
    [("two", OF_TWO_CLASSES), ("three", OF_CLASSES), ("number", OF_EVERY_RUN | {"values"})],
)
def test_a_report_has_every_figure_of_its_kind_of_task_and_nobodys_id(report_of, kind: str, figures: set[str]) -> None:
    page = report_of(kind).page
    assert set(re.findall(r'<figure id="figure-([a-z-]+)">', page)) == figures
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert "http" not in re.sub(r'src="data:[^"]*"|http-equiv', "", page)
    assert "person0" not in page
    assert "Small<b>" not in page and "Small&lt;b&gt;" in page
    assert not re.search(r"\bnan\b|\bNone\b", _text_of(page, "results") + _text_of(page, "cohort"))
    under_the_papers_protocol = kind == "three"
    assert ('<p class="warning">OPTIMISTIC' in page) == under_the_papers_protocol
    assert ("the epoch is chosen on the held-out part" in _text_of(page, "splits")) == under_the_papers_protocol


def test_small_subgroups_are_suppressed_and_empty_items_flagged(report_of) -> None:
    page, metrics = report_of("two").page, report_of("two").metrics
    assert re.search(r"site: Small<b>\s+<10 / <10\s+too few", _text_of(page, "subgroups"))
    assert "sex: F" in _text_of(page, "subgroups")
    within = metrics["within_site"]["auc"]
    assert f"same site, 2 sites with several classes: {within['value']:.3f} (" in _text_of(page, "confounds")
    checklist = re.search(r'<section id="checklist">(.*?)</section>', page, re.DOTALL)[1]
    empty = checklist.count("to be filled in by the authors")
    assert empty == checklist.count('<tr class="flagged">') > 0
    assert f"{empty} are empty" in checklist
    # what every scan went through is told step by step, here and to users of the model
    card = re.search(r'<section id="model-card">(.*?)</section>', page, re.DOTALL)[1]
    for part in (checklist, card):
        assert "very scan: nnU-Net&#39;s own preprocessing; linear interpolation to voxels of 1.75 × 1.75" in part
    area = metrics["scores"]["auc_mean_of_folds"]["value"]
    assert metrics["inflation_meter"]["epochs"] == [1] * len(metrics["folds"])
    words = " ".join(_text_of(page, "inflation").split())
    assert f"auc mean of folds {area:.3f} 1.000 {1 - area:.3f}" in words and "OPTIMISTIC" in words
    assert "ADNeXtTrainer_T – Copy 0.000 (no interval) 1.000 1.000 1.000" in " ".join(
        _text_of(page, "comparison").split()
    )
    assert f"AUC, mean of folds: {area:.3f} (" in _text_of(page, "question")


def test_curves_are_those_of_scikit_learn_and_lie_in_their_bands() -> None:
    generator = np.random.default_rng(1)
    targets = np.arange(90) % 3 == 0
    scores = (generator.normal(size=90) + targets).round(1)  # with ties
    resamples = Resamples(subject_ids=np.arange(90), strata=targets.astype(int), count=200)
    roc = roc_band(targets, scores, resamples)
    assert np.trapezoid(roc.value, GRID) == pytest.approx(roc_auc_score(targets, scores), abs=2e-3)
    assert (np.array(roc.low) <= roc.value).all() and (np.array(roc.value) <= np.array(roc.high) + 1e-12).all()
    band = precision_recall_band(targets, scores, resamples)
    precision, recall, _ = precision_recall_curve(targets, scores)
    # of the thresholds that reach a recall, the highest: the first from the end
    wanted = [precision[np.flatnonzero(recall >= level - 1e-12)[-1]] for level in GRID[1:]]
    np.testing.assert_allclose(band.value[1:], wanted)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the path")
def test_a_browser_shows_every_figure_on_phone_and_screen_and_asks_nobody_for_anything(report_of, tmp_path) -> None:
    page = report_of("two").page
    shown, requested, too_wide = _seen_by_a_browser(page, tmp_path, 390)
    assert shown == {f"figure-{name}" for name in OF_TWO_CLASSES}
    assert not requested and too_wide <= 0
    # would a request have been seen, and something that is too wide?
    asking = page.replace("</body>", '<img src="http://127.0.0.1:9/x.png"><div style="width: 1500px">x</div></body>')
    shown, requested, too_wide = _seen_by_a_browser(asking, tmp_path, 1280)
    assert shown == {f"figure-{name}" for name in OF_TWO_CLASSES}
    assert requested == {"http://127.0.0.1:9/x.png"} and too_wide > 0


def _seen_by_a_browser(page: str, folder: Path, width: int) -> tuple[set[str], set[str], int]:
    """Ids of the figures with a picture in them, addresses that the page asked for, pixels beyond the window's edge."""
    # the page forbids scripts and requests; the copy that is looked at does not, and tells what it sees in its title
    script = """<script>addEventListener('load', () => {
        const shown = [...document.images].filter(image => image.naturalWidth > 100 && image.clientWidth > 100)
        const asked = performance.getEntriesByType('resource').map(entry => entry.name)
        document.title = 'seen ' + shown.map(image => image.parentElement.id) + ';'
            + asked.filter(name => !name.startsWith('data:')) + ';'
            + (document.documentElement.scrollWidth - document.documentElement.clientWidth)})</script>"""
    copy = folder / "copy.html"
    copy.write_text(re.sub(r"<meta http-equiv[^>]*>", script, page))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    # the browser's own calls home go nowhere
    options += ["--proxy-server=127.0.0.1:9", f"--window-size={width},800", "--virtual-time-budget=5000"]
    done = subprocess.run([CHROMIUM, *options, "--dump-dom", str(copy)], capture_output=True, text=True, check=True)
    shown, requested, too_wide = re.search(r"<title>seen ([^<;]*);([^<;]*);(-?\d+)</title>", done.stdout).groups()
    return set(shown.split(",")), set(filter(None, requested.split(","))), int(too_wide)


@needs_chromium
def test_a_printed_report_has_every_cell_of_every_table_whole_and_legible(report_of, tmp_path: Path) -> None:
    page = report_of("two").page
    path, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    path.write_text(page)
    run(tmp_path, "1280,900", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={printed}", path.as_uri())
    pieces, (width, height) = _pieces_of(printed)
    text = _squeezed("".join(piece.text for piece in pieces))
    cells = [
        _squeezed(html.unescape(re.sub("<[^>]+>", "", cell)))
        for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page, re.DOTALL)
    ]
    assert len(cells) > 200 and [cell for cell in cells if cell not in text] == []
    # a page that is too wide is made smaller as a whole, and what even so does not fit is cut off at its right
    assert min(piece.points for piece in pieces) >= 7
    assert all(0 < piece.x < width - 20 and 0 < piece.y < height for piece in pieces)
    assert "Contents" not in text  # links of a screen


@dataclass(frozen=True)
class _Piece:
    """Letters on paper, where they begin, and their size in points."""

    text: str
    x: float
    y: float
    points: float


def _pieces_of(path: Path) -> tuple[list[_Piece], tuple[float, float]]:
    """All letters of a PDF, and the size of its pages in points."""
    pypdf = pytest.importorskip("pypdf")
    pieces = []

    def visit(text: str, cm: list[float], tm: list[float], _font: object, size: float) -> None:
        if text.strip():
            a, b, c, d, e, f = cm
            x, y = a * tm[4] + c * tm[5] + e, b * tm[4] + d * tm[5] + f
            pieces.append(_Piece(text=text, x=x, y=y, points=abs(size * tm[3] * d)))

    reader = pypdf.PdfReader(path)
    for page in reader.pages:
        page.extract_text(visitor_text=visit)
    box = reader.pages[0].mediabox
    return pieces, (float(box.width), float(box.height))


def _squeezed(text: str) -> str:
    """Without blanks, and with letters that printers join taken apart."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_regions_that_were_measured_are_a_baseline_and_a_section(tmp_path: Path, capsys) -> None:
    workspace = empty_workspace(tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        _write_run(workspace, TASKS["two"], protocol="honest")
        folder = workspace.preprocessed / DATASET
        assert evaluate.main(["401", "-tr", TRAINER, "--resamples", "100", "--baseline", "regions"]) == 2
        assert f"run adnext_regions -d {DATASET}" in capsys.readouterr().err
        subjects = pd.read_csv(folder / "subjects.csv")
        generator = np.random.default_rng(0)
        loss = 0.8 * (subjects["diagnosis"] == "AD") + generator.normal(0, 0.5, len(subjects))
        regions = pd.DataFrame({"case_id": subjects["case_id"], "hippocampus_left_grey_ml_per_l": 3 - loss})
        regions.iloc[2:].to_csv(folder / "regions.csv", index=False)
        assert evaluate.main(["401", "-tr", TRAINER, "--resamples", "100"]) == 0
    said = capsys.readouterr().out
    assert "regions+age+sex" in said and "2 cases could not be measured" in said
    results = next(workspace.results.rglob("crossval_results"))
    baselines = {one["name"]: one for one in json.loads((results / "metrics.json").read_text())["baselines"]}
    assert baselines["regions+age+sex"]["scores"]["auc_mean_of_folds"]["value"] > 0.75
    table = pd.read_csv(results / "regions_z.csv")
    assert len(table) == len(subjects) and table["hippocampus_left_grey_ml_per_l"].isna().sum() == 2
    page = (results / "report.html").read_text()
    assert "hippocampus left grey" in page and "Mean z-scores of held-out people" in page
