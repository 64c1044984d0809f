"""Bundles by way of a hub, which here is a small one in a process of its own."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_deployment_programs import TINY_VIT, made_model

from adnext_plugin.cli import export, install
from adnext_plugin.errors import SettingsError
from adnext_plugin.images import file_sha256
from adnext_plugin.prediction.bundle import write_bundle
from adnext_plugin.workflows.hub import HubPlace
from adnext_plugin.workflows.install import Request

SERVER = Path(__file__).with_name("small_hub.py")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a hub, which the package huggingface_hub asks instead of the real one."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    process = subprocess.Popen([sys.executable, "-I", str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that is installed here, in a folder of its own."""
    bundle = tmp_path / "made.zip"
    write_bundle(made_model(TINY_VIT, 32), bundle)
    assert install.main([str(bundle), "--into", str(tmp_path / "here")]) == 0
    return tmp_path / "here" / "made"


def test_a_model_is_pushed_privately_and_installed_elsewhere_by_its_commit(
    hub: str, model: Path, tmp_path: Path, capsys
) -> None:
    assert export.main([str(model), "--push", "lab/ad-model"]) == 0
    said = capsys.readouterr().out
    (digest,) = re.findall(r"SHA-256 (\w{64})", said)
    (place,) = re.findall(r"hf://lab/ad-model@[0-9a-f]{40}", said)
    assert digest == file_sha256(tmp_path / "made.zip")  # the same model gives the same bytes
    with urllib.request.urlopen(f"{hub}/private") as answer:
        assert json.load(answer) == {"lab/ad-model": True}
    with urllib.request.urlopen(f"{hub}/lab/ad-model/resolve/main/README.md") as answer:
        page = answer.read().decode()
    assert digest in page and "adnext_install hf://lab/ad-model" in page and str(tmp_path) not in page

    assert install.main([place, "--into", str(tmp_path / "models"), "--sha256", digest.upper()]) == 0
    said = capsys.readouterr().out
    assert f"model.zip of lab/ad-model, commit {place.rpartition('@')[2]}" in said and f"SHA-256 {digest}" in said
    installed = tmp_path / "models" / "ad-model"
    assert {file.name: file_sha256(file) for file in installed.iterdir()} == {
        file.name: file_sha256(file) for file in model.iterdir()
    }
    # a second time the page, which somebody may have written on, stays
    assert export.main([str(model), "--push", "lab/ad-model", "--folds", "0"]) == 0
    assert install.main(["hf://lab/ad-model", "--into", str(tmp_path / "models"), "--name", "one"]) == 0
    assert len(list((tmp_path / "models" / "one").glob("fold_*"))) == 1
    # what was fetched is there without the hub
    capsys.readouterr()
    import huggingface_hub

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert install.main([place, "--into", str(tmp_path / "offline")]) == 0
        assert install.main(["hf://lab/other", "--into", str(tmp_path / "offline")]) == 2
    assert "error: hf://lab/other: " in capsys.readouterr().err


def test_what_is_not_there_or_not_meant_is_one_line_and_leaves_nothing(
    hub: str, model: Path, tmp_path: Path, capsys
) -> None:
    assert export.main([str(model), "--push", "lab/m"]) == 0
    into = ["--into", str(tmp_path / "models")]
    capsys.readouterr()
    for place, words, message in (
        ("hf://lab/none", [], r"hf://lab/none: .*; name the bundle: hf://lab/none/FILE\.zip"),
        ("hf://locked/m", [], r"hf://locked/m: "),
        ("hf://lab/m@nowhere", [], r"hf://lab/m: "),
        ("hf://lab/m/other.zip", [], r"hf://lab/m: .*name the bundle"),
        ("hf://lab/m", ["--sha256", "0" * 64], r"hf://lab/m is not the bundle that was meant: its SHA-256 is \w{64}"),
        ("hf://lab", [], r"hf://lab is no bundle on the hub; write hf://OWNER/REPO"),
        ("hf://lab/m", ["--sha256", "12"], r"--sha256 12: give the 64 hexadecimal digits"),
    ):
        assert install.main([place, *into, *words]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert re.search(message, line), line
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())
    assert export.main([str(model), "--push", "locked/m"]) == 2
    assert "hf://locked/m: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give -o FILE, or --push OWNER/REPO"),
        (["--push", "model"], "--push model: name a repository of the hub as OWNER/REPO"),
        (["--push", "a/b", "-o", "m.onnx"], "bundles go to the hub, no programs"),
        (["--public", "-o", "m.zip"], "--public goes with --push"),
    ],
)
def test_exports_that_cannot_be_meant_are_one_line(words: list[str], message: str, capsys) -> None:
    assert export.main(["run", *words]) == 2
    assert message in capsys.readouterr().err


def test_places_on_the_hub_are_read_and_name_the_model() -> None:
    place = HubPlace.of("hf://lab/ad.model-1/sub/b.zip@v1.0")
    assert (place.repository, place.file, place.revision) == ("lab/ad.model-1", "sub/b.zip", "v1.0")
    assert HubPlace.of("hf://lab/m") == HubPlace(repository="lab/m")
    assert Request(bundle="hf://lab/m@main").model_name == "m" and Request(bundle="x/y.zip").model_name == "y"
    for wrong in ("hf://a", "hf://../b", "hf://a/b/c", "hf://a/b@", "hf:///a/b", "hf://a/b/x.zip@m n"):
        with pytest.raises(SettingsError, match="is no bundle on the hub"):
            HubPlace.of(wrong)
