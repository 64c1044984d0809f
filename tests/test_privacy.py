"""What people share of a run (results, checkpoints, pages) names neither folders of a machine nor people."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Trained

from adnext_plugin.cli import export, report, train
from adnext_plugin.images import file_sha256
from adnext_plugin.report.origin import _shown
from adnext_plugin.run_records import read_run_info
from adnext_plugin.settings import REASON_GIVEN, TrainerSettings
from adnext_plugin.stamps import AUDIT_SKIPPED, OPTIMISTIC, OTHER_PEOPLE, PEOPLE_NOT_KNOWN, stamps_of
from adnext_plugin.training.provenance import NO_COMMIT, PACKAGE, commit_of
from adnext_plugin.training.shared_settings import shared

SECRET_FOLDER, SECRET_REASON = "home_of_ms_smith", "sub03 is the twin of Mr Jones"


def _mentions(folder: Path, *secrets: str) -> list[str]:
    """Files with one of the texts in them; checkpoints and bundles keep text as it is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if any(secret.encode() in path.read_bytes() for secret in secrets))


def test_results_name_neither_the_folder_of_first_weights_nor_the_reason_to_skip_the_audit(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    data = tmp_path / "preprocessed" / "Dataset301_Toy"
    shutil.copytree(trained.workspace.preprocessed / "Dataset301_Toy", data)
    monkeypatch.setenv("nnUNet_preprocessed", str(data.parent))
    weights = tmp_path / SECRET_FOLDER / "fold_{fold}" / "first.pth"
    for fold in range(4):
        (tmp_path / SECRET_FOLDER / f"fold_{fold}").mkdir(parents=True)
        shutil.copy(trained.run / f"fold_{fold}" / "checkpoint_best.pth", str(weights).format(fold=fold))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "shared"))
    command = ["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--skip-audit", SECRET_REASON]
    command += ["--set", "epochs=1", "--set", "augmentation=none"]
    assert train.main([*command, "-pretrained_weights", str(weights)]) == 0
    run = tmp_path / "shared" / "Dataset301_Toy" / trained.run.name
    assert report.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    assert export.main([str(run), "-o", str(run / "model.zip"), "-device", "cpu"]) == 0
    assert len(list(run.rglob("*.pth"))) >= 8 and (run / "crossval_results" / "report.html").is_file()
    assert _mentions(tmp_path / "shared", SECRET_FOLDER, "Mr Jones") == []
    for fold in range(4):
        settings = read_run_info(run / f"fold_{fold}" / "run.json").settings
        digest = file_sha256(Path(str(weights).format(fold=fold)))
        assert settings["pretrained_weights"] == f"first.pth, SHA-256 {digest}"
        assert settings["skip_audit"] == REASON_GIVEN
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    assert AUDIT_SKIPPED in metrics["warning"]
    assert f"--skip-audit, {run.name}: {SECRET_REASON}" in (data / "reasons.log").read_text()
    # the same command knows its run again
    before = {path: path.read_bytes() for path in run.rglob("*.pth")}
    assert train.main([*command, "-pretrained_weights", str(weights)]) == 0
    assert {path: path.read_bytes() for path in run.rglob("*.pth")} == before
    # a run that is continued keeps them apart, too, and knows that it began with these weights
    shutil.rmtree(tmp_path / SECRET_FOLDER)
    longer = ["301", "3d_fullres", "0", "--c", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=2"]
    assert train.main(longer) == 0
    assert "first.pth, SHA-256 " in read_run_info(run / "fold_0" / "run.json").settings["pretrained_weights"]
    assert _mentions(tmp_path / "shared", SECRET_FOLDER, "Mr Jones") == []
    capsys.readouterr()
    assert train.main([*command[:2], "cv", "--c", "--seeds", "2", *command[3:]]) == 2
    assert "give it again with -pretrained_weights" in capsys.readouterr().err


def test_settings_are_shared_alike_whether_they_were_before_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    settings = TrainerSettings(pretrained_weights=str(tmp_path / "a.pth"), skip_audit="x", other_people="y")
    once = shared(settings, 0)
    assert shared(once, 0) == once != settings and shared(TrainerSettings(), 0) == TrainerSettings()
    (tmp_path / "a.pth").write_bytes(b"other weights")
    assert shared(settings, 0).pretrained_weights != once.pretrained_weights
    (tmp_path / "a.pth").unlink()
    assert shared(settings, 0).pretrained_weights == "a.pth, SHA-256 not known"


def test_reasons_that_earlier_versions_wrote_are_not_handed_on() -> None:
    old = [f"{OPTIMISTIC}; AUDIT SKIPPED: Mr Jones; {OTHER_PEOPLE}: Ms Smith; {PEOPLE_NOT_KNOWN}", None, "PERMUTED: x"]
    assert stamps_of(old) == (f"{OPTIMISTIC}; AUDIT SKIPPED; {OTHER_PEOPLE}; {PEOPLE_NOT_KNOWN}", "PERMUTED: x")
    assert stamps_of([f"{AUDIT_SKIPPED}: sub-01", AUDIT_SKIPPED]) == (AUDIT_SKIPPED,)


def test_a_report_on_a_run_of_an_earlier_version_shows_names_of_files_alone() -> None:
    assert _shown("pretrained_weights", "/home/smith/a.pth") == "a.pth"
    assert _shown("pretrained_weights", r"C:\smith\a.pth") == "a.pth" and _shown("pretrained_weights", None) is None
    assert _shown("skip_audit", "Mr Jones") == "a reason was given" and _shown("epochs", 3) == 3
    assert _shown("network", {"name": "n", "options": {"x_weights": "/a/b.pth"}})["options"] == {"x_weights": "b.pth"}


def test_a_commit_is_noted_of_the_packages_own_repository_alone(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    installed = tmp_path / "venv" / "site-packages" / "adnext_plugin"
    own = tmp_path / "adnext_plugin"
    for package in (installed, own):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    assert commit_of(installed) == NO_COMMIT
    git("init")
    assert commit_of(own) == NO_COMMIT  # nothing is committed
    (tmp_path / "thesis.tex").touch()
    git("add", "thesis.tex")
    git("commit", "-m", "private")
    assert commit_of(installed) == NO_COMMIT == commit_of(own)
    git("add", "--all")
    git("commit", "-m", "with the package")
    assert commit_of(installed) == NO_COMMIT and commit_of(own) == git("rev-parse", "HEAD")
    assert len(commit_of(PACKAGE)) in (40, len(NO_COMMIT))
