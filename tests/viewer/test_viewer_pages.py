"""The viewer: what it finds of a run or of predictions, its server, and that a browser draws scans."""

import gzip
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from browser import WEBGL, needs_chromium, run, seen
from conftest import Workspace, toy_brain, write_scan
from PIL import Image

from adnext_plugin.case_properties import CaseProperties, write_case_properties
from adnext_plugin.cli import view
from adnext_plugin.csv_files import write_csv
from adnext_plugin.errors import PathsError
from adnext_plugin.files import write_json
from adnext_plugin.viewer.cases import Layer, Viewed, ViewedCase, as_nifti
from adnext_plugin.viewer.server import ViewServer
from adnext_plugin.workflows.view_cases import cases_of

INSIDE = (slice(220, 460), slice(40, 440))  # rows and columns of the window where the scan is
TRIES = 5  # while nothing but decompression is to be waited for, the browser's clock leaps to its end
WINDOW = "840,480"  # a small one is drawn in a fraction of the time where there is no GPU
# what is drawn is looked at in the picture of the window; the rest is said by the page itself
LOOK = """
    const ready = async () => {
        while (document.body.dataset.state === 'loading') await new Promise(done => setTimeout(done, 50))
        return document.body.dataset.state
    }
    const texts = found => [...found].map(one => one.textContent.trim())
    const told = () => Object.fromEntries([...document.querySelectorAll('#said tr')].map(row => texts(row.children)))
    const said = {first: await ready(), told: told()}
    said.layers = texts(document.querySelectorAll('.layer > label:first-child'))
    document.getElementById('next').click()
    said.second = await ready()
    said.case = document.getElementById('case').selectedOptions[0].textContent
    said.toldNext = told()
    said.status = document.getElementById("status").textContent
    said.missing = document.getElementById('missing').textContent
    const asked = performance.getEntriesByType('resource').map(entry => entry.name)
    said.asked = asked.filter(name => !/^(data|blob):/.test(name))
    return said
"""


@pytest.fixture
def run_folder(fresh: Workspace) -> Path:
    """An evaluated run of two people as far as a viewer sees; the first was explained, and had a skull."""
    dataset, names = "Dataset301_Toy", ("sub00", "sub01")
    brain = toy_brain(0, has_hole=True)
    for index, name in enumerate(names):
        scan = toy_brain(index, has_hole=index == 0)
        write_scan(fresh.raw / dataset / "imagesTr" / f"{name}_0000.nii.gz", scan)
    folder = fresh.results / dataset / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    write_scan(folder / "explanations" / "grad_cam" / "sub00.nii.gz", np.where(brain > 100, 0.7, 0).astype(np.float32))
    rows = {"case_id": names, "subject_id": names, "session_id": "", "fold": [0, 3], "target": ["CN", "AD"]}
    rows |= {"logit_CN": [0.1, 0.2], "prob_CN": [0.75, 0.126], "logit_AD": [0.3, 0.4], "prob_AD": [0.25, 0.874]}
    (folder / "crossval_results").mkdir()
    write_csv(pd.DataFrame(rows), folder / "crossval_results" / "predictions.csv")
    (folder / "plans.json").write_text("{}")
    prepared = fresh.preprocessed / dataset
    mask = write_scan(prepared / "brain_masks" / "deepbet" / "sub00.nii.gz", (brain > 0).astype(np.float32))
    write_json({"configurations": {"3d_fullres": {"data_identifier": "x"}}}, prepared / "ADNeXtPlans.json")
    (prepared / "x").mkdir()
    properties = CaseProperties(
        fit="pad_crop",
        brain_litres=1.0,
        ras_shape_voxels=(38, 40, 36),
        ras_affine=((2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 2.0, 0), (0, 0, 0, 1.0)),
        spacing_mm=(2.0, 2.0, 2.0),
        foreground_box=((0, 38), (0, 40), (0, 36)),
        resampled_shape_voxels=(38, 40, 36),
        share_of_foreground_cut_off=0.0,
        key="x",
        mask=str(mask),
    )
    write_case_properties(properties, prepared / "x" / "sub00.pkl")
    return folder


@needs_chromium
def test_a_browser_draws_scans_of_a_run_with_their_maps_and_says_what_was_predicted(run_folder: Path, tmp_path) -> None:
    page = tmp_path / "page.html"
    assert view.main([str(run_folder), "-o", str(page)]) == 0
    picture = tmp_path / "window.png"
    options = (*WEBGL, "--virtual-time-budget=300000", f"--screenshot={picture}")  # of a busy machine
    said = seen(page.read_text(), tmp_path, LOOK, WINDOW, options)
    assert (
        said["status"] == ""
        and said["first"] == said["second"] == "ready"
        and said["asked"] == []
        and said["missing"] == ""
    )
    assert said["layers"] == ["brain mask", "map grad_cam"] and said["case"] == "sub01"
    assert said["told"] == {
        "held out in fold": "0",
        "true": "CN",
        "probability of CN": "0.75",
        "probability of AD": "0.25",
    }
    assert said["toldNext"]["true"] == "AD" and said["toldNext"]["probability of AD"] == "0.874"
    grey = _of_canvas(picture)
    # three planes of a brain on black
    assert 0.05 < (grey > 60).mean() < 0.9 and grey.std() > 20


def _of_canvas(picture: Path) -> np.ndarray:
    """The part of the window where the scan is."""
    shown = np.asarray(Image.open(picture).convert("L")).astype(float)
    return shown[INSIDE]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ViewServer]:
    """A scan with a mask and a map, and a scan that is damaged, served."""
    brain = toy_brain(0, has_hole=True)
    scan = write_scan(tmp_path / "scan.nii.gz", brain)
    mask = write_scan(tmp_path / "mask.nii.gz", (brain > 0).astype(np.float32))
    over = write_scan(tmp_path / "map.nii.gz", np.where(brain > 100, -1.5, 0).astype(np.float32))
    (tmp_path / "bad.nii.gz").write_bytes(scan.read_bytes()[:3000])
    layers = [Layer(name=kind, kind=kind, file=file) for kind, file in (("scan", scan), ("mask", mask), ("map", over))]
    cases = (
        ViewedCase(name="</script><b>good", layers=tuple(layers), said=(("called", "AD & <more>"),)),
        ViewedCase(name="bad", layers=(Layer(name="scan", kind="scan", file=tmp_path / "bad.nii.gz"),)),
    )
    with ViewServer(Viewed(title="Made <up>", sentences=(), cases=cases)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@needs_chromium
def test_a_browser_draws_what_is_served(served: ViewServer, tmp_path: Path) -> None:
    picture = tmp_path / "window.png"
    options = (*WEBGL, "--virtual-time-budget=20000", f"--screenshot={picture}", "--dump-dom")
    for _ in range(TRIES):
        page = run(tmp_path, WINDOW, *options, served.address)
        if 'data-state="loading"' not in page:
            break
    assert '<body data-state="ready">' in page and "AD &amp; &lt;more&gt;" in page
    assert re.findall(r'type="checkbox">? ?(?:[^<]*>)? ?(\w+)', page) == ["mask", "map"]
    colours = np.asarray(Image.open(picture).convert("RGB")).astype(int)[INSIDE]
    # the mask tints grey with red, the negative map with blue
    assert ((colours[..., 0] - colours[..., 1]) > 30).mean() > 0.02
    assert ((colours[..., 2] - colours[..., 0]) > 30).mean() > 0.005


def test_the_server_gives_volumes_to_whoever_knows_its_secret_and_nothing_else(served: ViewServer) -> None:
    with urllib.request.urlopen(served.address) as answer:
        page = answer.read().decode()
        assert answer.headers["Cache-Control"] == "no-store"
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page)[1])
    assert [case["name"] for case in facts] == ["</script><b>good", "bad"]
    assert "<b>good" not in page and "Made &lt;up&gt;" in page
    with urllib.request.urlopen(served.address + facts[0]["layers"][0]["url"]) as answer:
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(answer.read()))
    expected = nibabel.load(served.viewed.cases[0].layers[0].file)
    np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())
    np.testing.assert_allclose(image.affine, expected.affine)
    with urllib.request.urlopen(served.address + "niivue.js") as answer:
        assert b"niivue" in answer.read(500)
    root = served.address.removesuffix(f"{served.secret}/")
    for address in (
        root,
        f"{root}wrong/",
        f"{root}wrong/volume/0/0",
        *(
            served.address + rest
            for rest in ("volume/9/0", "volume/0/9", "volume/-1/0", "volume/0", "../", "bad.nii.gz")
        ),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address)
        assert refused.value.code == 404
    with pytest.raises(urllib.error.HTTPError, match="422") as refused:
        urllib.request.urlopen(served.address + "volume/1/0")
    assert "bad.nii.gz cannot be read" in refused.value.read().decode()
    with pytest.raises(PathsError, match=r"--port \d+ cannot be had"):
        ViewServer(served.viewed, served.server_address[1])


@pytest.mark.parametrize(("kind", "voxels", "stored"), [("mask", 5.0, "u1"), ("scan", 4.0, "i2"), ("scan", 0.5, "f4")])
def test_volumes_are_sent_in_the_smallest_type_without_loss(kind, voxels, stored, tmp_path: Path) -> None:
    values = np.zeros((6, 7, 8), np.float64)
    values[2:4] = voxels
    path = tmp_path / "odd.mgz"
    nibabel.save(nibabel.MGHImage(values.astype(np.float32), np.diag([-1, 2, 3, 1])), path)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(as_nifti(Layer(name="x", kind=kind, file=path), 1)))
    assert image.get_data_dtype() == stored
    np.testing.assert_array_equal(image.get_fdata(), (values != 0) if kind == "mask" else values)
    np.testing.assert_allclose(image.affine, nibabel.load(path).affine, atol=1e-5)


def test_predictions_are_viewed_with_their_maps_and_what_is_gone_is_said(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz", toy_brain(0, has_hole=False))
    folder = tmp_path / "out"
    rows = {"case_id": ["x/a", "b"], "file": [str(scan), str(tmp_path / "b.nii.gz")], "prob_CN": [0.25, np.nan]}
    rows |= {"prob_AD": [0.75, np.nan], "called": ["AD", ""], "threshold": [0.5, np.nan], "error": ["", "too dark"]}
    folder.mkdir()
    write_csv(pd.DataFrame(rows), folder / "predictions.csv")
    (folder / "predictions.json").write_text("{}")
    write_scan(folder / "explanations" / "x" / "a.nii.gz", toy_brain(1, has_hole=False))
    one, other = cases_of(folder, (), ()).cases
    assert dict(one.said) == {
        "probability of CN": "0.25",
        "probability of AD": "0.75",
        "called": "AD",
        "called so from": "0.5",
    }
    assert [(layer.kind, layer.file.name) for layer in one.layers] == [("scan", "a.nii.gz"), ("map", "a.nii.gz")]
    assert dict(other.said) == {"not predicted": "too dark"} and not other.layers
    assert other.missing == (f"The scan is not there: {tmp_path / 'b.nii.gz'}",)


def test_what_cannot_be_viewed_is_one_line(run_folder: Path, tmp_path: Path, capsys) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz", toy_brain(0, has_hole=False))
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(scan.read_bytes()[:3000])
    page = tmp_path / "page.html"
    page.write_text("mine")
    run_name, new = str(run_folder), ["-o", str(tmp_path / "new.html")]
    for words, message in (
        ([str(tmp_path / "none")], "is neither a scan nor the folder of a run"),
        ([str(tmp_path)], "is neither a scan nor the folder of a run"),
        ([str(bad)], "bad.nii.gz cannot be read"),
        ([str(scan), "--mask", str(bad)], "bad.nii.gz cannot be read"),
        ([run_name, "--mask", str(scan)], "--mask and --map lie over a scan"),
        ([run_name, "--cases", "sub99", *new], "--cases sub99: there is no such case"),
        ([str(scan), "-o", str(page)], "page.html exists; choose another name, or give --overwrite"),
        ([str(scan), "-o", str(tmp_path / "page.pdf")], "the name of a page ends in .html"),
        ([str(scan), "--port", "99999"], "--port 99999: a port is 0 to 65535"),
    ):
        assert view.main(words) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
    assert page.read_text() == "mine" and not (tmp_path / "new.html").exists()
    (run_folder / "crossval_results" / "predictions.csv").unlink()
    assert view.main([run_name]) == 2
    assert "evaluate the run first, by adnext_evaluate" in capsys.readouterr().err
