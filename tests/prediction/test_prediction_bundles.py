"""Bundles: what is in them, and what is refused as one. A stranger's file must neither run nor write anything."""

import hashlib
import json
import os
import pickle
import random
import re
import resource
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Trained

from adnext_plugin.cli import export, install, predict
from adnext_plugin.errors import BundleError
from adnext_plugin.prediction.bundle import read_bundle, write_bundle
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.limits import require_own_weights
from adnext_plugin.prediction.model import FoldModel
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.settings import TrainerSettings

MODELS = "bundles"


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


def _entries(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(bundle: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(bundle, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)


def _change(bundle: Path, name: str, change: Callable[[dict], None]) -> None:
    """Change a JSON file of a bundle, and the manifest so that it fits."""
    entries = _entries(bundle)
    content = json.loads(entries[name])
    change(content)
    entries[name] = json.dumps(content).encode()
    if name != "manifest.json":
        manifest = json.loads(entries["manifest.json"])
        digest = hashlib.sha256(entries[name]).hexdigest()
        manifest["files"][name] = {"bytes": len(entries[name]), "sha256": digest}
        entries["manifest.json"] = json.dumps(manifest).encode()
    _write(bundle, entries)


def _errors(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def _refused(bundle: Path, message: str, capsys) -> None:
    """Installing says so in one line and leaves nothing behind."""
    parent = Path(os.environ["nnUNet_results"]).parent
    before = sorted(path for path in parent.rglob("*") if path.name != MODELS)
    capsys.readouterr()
    assert install.main([str(bundle), "--name", "stranger"]) == 2
    errors = _errors(capsys)
    assert len(errors) == 1 and message in errors[0], errors
    assert sorted(path for path in parent.rglob("*") if path.name != MODELS) == before


def test_a_bundle_holds_no_case_subject_label_row_or_path(trained: Trained) -> None:
    contents = [trained.bundle.read_bytes(), *_entries(trained.bundle).values()]
    subjects = pd.read_csv(trained.workspace.preprocessed / "Dataset301_Toy" / "subjects.csv", dtype=str)
    rows = [",".join(map(str, row)) for row in subjects.itertuples(index=False)]
    secrets = {*subjects["case_id"], *subjects["subject_id"], *subjects["image_sha256"], *rows}
    secrets |= {str(path) for path in vars(trained.workspace).values()}
    assert len(secrets) > 60
    for secret in secrets:
        assert not any(secret.encode() in content for content in contents), secret
    allowed = {"manifest.json", "model.json"} | {
        f"{kind}_{k}.safetensors" for kind in ("fold", "features") for k in range(4)
    }
    assert set(_entries(trained.bundle)) == allowed


def test_the_same_model_gives_the_same_bytes(trained: Trained) -> None:
    again = trained.bundle.with_name("again.zip")
    assert export.main([str(trained.run), "-o", str(again), "-device", "cpu"]) == 0
    assert again.read_bytes() == trained.bundle.read_bytes()


def test_a_pickle_is_refused_as_a_checkpoint_and_as_a_bundle_and_never_run(trained: Trained, tmp_path, capsys) -> None:
    trace = tmp_path / "trace"
    summary = json.loads((trained.run / "fold_1" / "validation" / "summary.json").read_text())
    checkpoint = trained.run / "fold_1" / summary["evaluated_checkpoint"]
    zipped, plain = tmp_path / "zipped.zip", tmp_path / "plain.zip"
    torch.save({"network_weights": Malicious(trace)}, zipped)
    plain.write_bytes(pickle.dumps({"network_weights": Malicious(trace)}))
    for file in (zipped, plain):
        checkpoint.write_bytes(file.read_bytes())
        scan = next(trained.workspace.source.glob("*.nii.gz"))
        arguments = ["-i", str(scan), "-o", str(tmp_path / "out"), "-m", str(trained.run), "-device", "cpu"]
        for command, words in ((predict, arguments), (export, [str(trained.run), "-o", str(tmp_path / "new.zip")])):
            capsys.readouterr()
            assert command.main(words) == 2
            (error,) = _errors(capsys)
            assert "is not a checkpoint that can be read safely" in error and checkpoint.name in error
        _refused(file, "is refused" if file == zipped else "is no model bundle", capsys)
    assert not trace.exists()
    torch.load(zipped, weights_only=False)
    assert trace.exists(), "the pickle of this test is not malicious"


@pytest.mark.parametrize("name", ["../outside.json", "/tmp/outside.json", "..\\outside.json", "a/fold_0.safetensors"])
def test_an_entry_that_leads_elsewhere_is_refused(trained: Trained, capsys, name: str) -> None:
    _write(trained.bundle, {**_entries(trained.bundle), name: b"{}"})
    _refused(trained.bundle, "is not one of a model bundle", capsys)


def test_links_doubles_compressed_entries_and_false_sizes_are_refused(trained: Trained, capsys) -> None:
    entries = _entries(trained.bundle)
    link = zipfile.ZipInfo("features_all.safetensors")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(trained.bundle, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    _refused(trained.bundle, "is a link or a device", capsys)
    _write(trained.bundle, entries)
    with zipfile.ZipFile(trained.bundle, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model.json", "{}")
    _refused(trained.bundle, "is there twice", capsys)
    _write(trained.bundle, {**entries, "fold_9.safetensors": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    assert trained.bundle.stat().st_size < 2 * 10**7
    _refused(trained.bundle, "is compressed", capsys)
    _write(trained.bundle, {**entries, "manifest.json": b"{" * 5 * 2**20})
    _refused(trained.bundle, "more than text of a bundle can have", capsys)
    _write(trained.bundle, {**entries, "manifest.json": b"[" * 2**20})
    _refused(trained.bundle, "manifest.json", capsys)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_bundle_is_refused(trained: Trained, capsys, share: float) -> None:
    content = trained.bundle.read_bytes()
    trained.bundle.write_bytes(content[: int(share * len(content))])
    _refused(trained.bundle, "is no model bundle, or is damaged", capsys)


def test_a_changed_or_missing_file_is_refused_when_installing_and_when_predicting(
    trained: Trained, tmp_path, capsys
) -> None:
    entries = _entries(trained.bundle)
    weights = bytearray(entries["fold_2.safetensors"])
    weights[-1] ^= 1
    assert install.main([str(trained.bundle)]) == 0
    installed = trained.workspace.results / MODELS / "toy" / "fold_2.safetensors"
    installed.write_bytes(weights)
    assert predict.main(["-i", "301", "-o", str(tmp_path / "out"), "-m", "toy", "-device", "cpu"]) == 2
    assert "fold_2.safetensors is not what was exported" in _errors(capsys)[0]
    _write(trained.bundle, {**entries, "fold_2.safetensors": bytes(weights)})
    _refused(trained.bundle, "fold_2.safetensors is not what was exported", capsys)
    _write(trained.bundle, {name: content for name, content in entries.items() if name != "fold_2.safetensors"})
    _refused(trained.bundle, "fold_2.safetensors is not both in the bundle and in its manifest", capsys)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("manifest.json", {"format_version": 2}, "the bundle is of format 2, and this version of adnext_plugin reads"),
        ("manifest.json", {"format": "other"}, "its format is 'other'"),
        ("model.json", {"surprise": 1}, "unknown key 'surprise'"),
        ("model.json", {"folds": []}, "a model needs folds"),
        ("model.json", {"plan": {}}, "has learned no task"),
    ],
)
def test_unknown_formats_and_contents_are_refused(trained: Trained, capsys, file, change, message) -> None:
    _change(trained.bundle, file, lambda content: content.update(change))
    _refused(trained.bundle, message, capsys)


def test_a_description_that_does_not_fit_its_weights_or_names_files_is_refused(trained: Trained, capsys) -> None:
    original = trained.bundle.read_bytes()

    def third_class(content: dict) -> None:
        content["plan"]["task"]["classes"].append("MCI")
        for fold in content["folds"]:
            fold["threshold"] = None

    def local_file(content: dict) -> None:
        content["plan"]["network"]["options"]["kinetics_weights"] = "/etc/passwd"

    def no_number(content: dict) -> None:
        content["folds"][0]["temperature"] = float("nan")

    def no_threshold(content: dict) -> None:
        content["folds"][1]["threshold"] = None

    def fewer_covariates(content: dict) -> None:
        content["folds"][2]["covariate_scale"]["means"] = [1.0]

    def no_rate(content: dict) -> None:
        content["plan"]["network"]["options"]["drop_path_rate"] = "seven"

    for change, message in (
        (third_class, "are of another network than the plan's adnext_t"),
        (local_file, "names a file of this machine"),
        (no_number, "temperature"),
        (no_threshold, "fold 1 must have a threshold"),
        (fewer_covariates, "fold 2 has a scale of other covariates than age, sex"),
        (no_rate, "no network can be built of its plan"),
    ):
        trained.bundle.write_bytes(original)
        _change(trained.bundle, "model.json", change)
        _refused(trained.bundle, message, capsys)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("plan", "preprocessing", "input_size_voxels"), [4000, 4000, 4000], "more than 134217728 voxels"),
        (("plan", "preprocessing", "spacing_mm"), [0.001, 1.0, 1.0], "not 0.1 to 20.0 mm"),
        (("plan", "preprocessing", "n4_iterations"), [10**9], "together more than 1000"),
        (("plan", "network"), {"name": "vit_b16", "options": {}}, "are of another network than the plan's vit_b16"),
        (("plan", "network", "options", "drop_path_rate"), 10**9, "more than 100000"),
        (("folds", 0, "temperature"), 1e-300, "not 0.01 to 100.0"),
        (("folds", 1, "threshold"), -3.0, "not 0 to 1"),
        (("trainer",), "\x1b]0;title\x07\x1b[31mADNeXt", "printable characters"),
        (("plan", "task", "classes"), ["CN", "AD\x1b[2J"], "printable characters"),
        (("stamps",), ["x" * 10_000], "printable characters"),
    ],
)
def test_what_would_fill_a_memory_never_end_or_command_a_terminal_is_refused(
    trained: Trained, capsys, keys: tuple, value: object, message: str
) -> None:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    _change(trained.bundle, "model.json", change)
    _refused(trained.bundle, message, capsys)


def test_a_huge_network_is_compared_with_its_weights_before_memory_is_taken_for_it(trained: Trained, capsys) -> None:
    def change(content: dict) -> None:
        content["plan"]["preprocessing"]["input_size_voxels"] = [512, 512, 512]
        content["plan"]["network"] = {"name": "vit_b16", "options": {}}

    _change(trained.bundle, "model.json", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refused(trained.bundle, "are of another network than the plan's vit_b16", capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB; its weights need 440 MiB


def test_weights_that_are_not_finite_are_neither_exported_nor_installed(trained: Trained, tmp_path, capsys) -> None:
    model = read_run(RunFolder(trained.run))
    weights = {name: tensor.clone() for name, tensor in model.folds[2].weights.items()}
    next(iter(weights.values())).view(-1)[0] = float("nan")
    broken = replace(model, folds=(*model.folds[:2], FoldModel(weights=weights), *model.folds[3:]))
    with pytest.raises(BundleError, match=r"fold 2 of ADNeXtTrainer_T: .* not finite"):
        write_bundle(broken, tmp_path / "broken.zip")
    assert not (tmp_path / "broken.zip").exists()
    with pytest.raises(BundleError, match=r"fold 2: .* not finite"):
        require_own_weights(broken, "model.json")


def test_a_bundle_of_compiled_networks_is_installed_with_the_networks_own_names(trained: Trained, tmp_path) -> None:
    model = read_run(RunFolder(trained.run))
    compiled = [{f"_orig_mod.{name}": tensor for name, tensor in fold.weights.items()} for fold in model.folds]
    folds = tuple(replace(fold, weights=weights) for fold, weights in zip(model.folds, compiled, strict=True))
    write_bundle(replace(model, folds=folds), tmp_path / "compiled.zip")
    assert install.main([str(tmp_path / "compiled.zip"), "--into", str(tmp_path)]) == 0
    installed = read_bundle(tmp_path / "compiled")
    for own, found in zip(model.folds, installed.folds, strict=True):
        assert own.weights.keys() == found.weights.keys()
        assert all(torch.equal(own.weights[name], tensor) for name, tensor in found.weights.items())


def test_a_dataset_of_other_classes_is_refused(trained: Trained, tmp_path, monkeypatch, capsys) -> None:
    assert install.main([str(trained.bundle)]) == 0
    other = tmp_path / "preprocessed" / "Dataset302_Other"
    other.mkdir(parents=True)
    source = trained.workspace.preprocessed / "Dataset301_Toy"
    (other / "ADNeXtPlans.json").write_bytes((source / "ADNeXtPlans.json").read_bytes())
    content = json.loads((source / "dataset.json").read_text())
    content["adnext"]["classes"] = ["CN", "MCI"]
    (other / "dataset.json").write_text(json.dumps(content))
    assert predict.main(["-i", str(other), "-o", str(tmp_path / "out"), "-m", "toy", "-device", "cpu"]) == 2
    (error,) = _errors(capsys)
    assert "is for classification of CN, MCI, but the model for classification of CN, AD" in error


def test_installing_replaces_only_when_told_and_only_bundles(trained: Trained, tmp_path, capsys) -> None:
    assert install.main([str(trained.bundle), "--into", str(tmp_path)]) == 0
    assert install.main([str(trained.bundle), "--into", str(tmp_path)]) == 2
    assert "give --overwrite" in _errors(capsys)[0]
    assert install.main([str(trained.bundle), "--into", str(tmp_path), "--overwrite"]) == 0
    (tmp_path / "mine").mkdir()
    assert install.main([str(trained.bundle), "--into", str(tmp_path), "--name", "mine", "--overwrite"]) == 2
    assert install.main([str(trained.bundle), "--into", str(tmp_path), "--name", "../up"]) == 2
    assert "a model cannot be called '../up'" in _errors(capsys)[1]


def test_stamps_of_a_run_go_with_its_bundle_but_not_what_was_written_of_people(trained: Trained, tmp_path) -> None:
    for fold in range(4):
        path = trained.run / f"fold_{fold}" / "validation" / "summary.json"
        stamps = TrainerSettings(permute_labels=3, skip_audit="sub01 is sub02").warnings
        path.write_text(json.dumps({**json.loads(path.read_text()), "warning": "; ".join(stamps)}))
    assert read_run(RunFolder(trained.run)).description.stamps == ("; ".join(stamps),)
    bundle = tmp_path / "stamped.zip"
    assert export.main([str(trained.run), "-o", str(bundle), "-device", "cpu", "--without-ranges"]) == 0
    assert install.main([str(bundle)]) == 0
    assert predict.main(["-i", "301", "-o", str(tmp_path / "out"), "-m", "stamped", "-device", "cpu"]) == 0
    said = json.loads((tmp_path / "out" / "predictions.json").read_text())["warning"]
    assert said.startswith("PERMUTED: labels were dealt out anew") and said.endswith("AUDIT SKIPPED")
    assert not any(b"sub01" in content for content in _entries(bundle).values())


def test_no_damage_to_any_byte_does_harm(trained: Trained, tmp_path, capsys) -> None:
    """Bits are flipped and stretches cut out, inserted or doubled: refused in one line, or by luck the same model."""
    original, target = trained.bundle.read_bytes(), tmp_path / "damaged.zip"
    trusted, generator = _entries(trained.bundle), random.Random(0)
    headers = [match.start() for match in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", original)]
    before = {path for path in tmp_path.rglob("*") if MODELS not in path.parts}
    for trial in range(150):
        content = bytearray(original)
        # most damage where it matters: names, sizes, offsets
        near = generator.choice(headers) if trial % 3 else generator.randrange(len(content))
        place = min(near + generator.randrange(64), len(content) - 1)
        stretch = generator.randrange(1, 40)
        if trial % 4 == 0:
            del content[place : place + stretch]
        elif trial % 4 == 1:
            content[place:place] = generator.randbytes(stretch)
        else:
            content[place] ^= 1 << generator.randrange(8)
        target.write_bytes(content)
        capsys.readouterr()
        code = install.main([str(target), "--name", "damaged", "--overwrite"])
        lines = _errors(capsys)
        assert (code, len(lines)) in ((2, 1), (0, 0)), lines
        installed = Path(os.environ["nnUNet_results"]) / MODELS / "damaged"
        if code == 0:
            assert {path.name: path.read_bytes() for path in installed.iterdir()} == trusted
            shutil.rmtree(installed)
        assert not installed.exists()
        assert {path for path in tmp_path.rglob("*") if MODELS not in path.parts} - {target} == before


def _with_sizes(bundle: Path, name: str, size: int) -> None:
    """Let the central directory claim a size for an entry that it does not have."""
    content = bytearray(bundle.read_bytes())
    place = content.rindex(name.encode()) - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    content[place + 20 : place + 28] = struct.pack("<II", size, size)
    bundle.write_bytes(content)


def test_sizes_that_would_fill_a_disk_are_refused_before_anything_is_written(trained: Trained, capsys) -> None:
    original = trained.bundle.read_bytes()
    for name, size, message in (
        ("fold_3.safetensors", 2**32 - 2, "more than a bundle can"),
        ("model.json", 2**31, "more than text of a bundle can have"),
        ("manifest.json", 0, "is no model bundle, or is damaged"),
    ):
        trained.bundle.write_bytes(original)
        _with_sizes(trained.bundle, name, size)
        _refused(trained.bundle, message, capsys)
    # many entries that nothing is in
    trained.bundle.write_bytes(original)
    entries = {f"fold_{index}.safetensors": b"" for index in range(900)}
    _write(trained.bundle, {**_entries(trained.bundle), **entries})
    _refused(trained.bundle, "is not both in the bundle and in its manifest", capsys)


def test_a_pickle_among_the_files_of_an_installed_bundle_is_refused_and_never_run(
    trained: Trained, tmp_path, capsys
) -> None:
    """Under a name of a bundle, with its hash in the manifest, and under the name of a checkpoint."""
    trace = tmp_path / "trace"
    torch.save({"network_weights": Malicious(trace)}, tmp_path / "pickle.pth")
    pickled, entries = (tmp_path / "pickle.pth").read_bytes(), _entries(trained.bundle)
    _write(trained.bundle, {**entries, "checkpoint_final.pth": pickled})
    _refused(trained.bundle, "is not one of a model bundle", capsys)
    manifest = json.loads(entries["manifest.json"])
    digest = hashlib.sha256(pickled).hexdigest()
    manifest["files"]["fold_1.safetensors"] = {"bytes": len(pickled), "sha256": digest}
    changed = {"fold_1.safetensors": pickled, "manifest.json": json.dumps(manifest).encode()}
    _write(trained.bundle, {**entries, **changed})
    _refused(trained.bundle, "cannot be read", capsys)
    assert not trace.exists()
