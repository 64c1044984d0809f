"""Inputs that somebody else, a fault of a disk, or a slip of the hand may have made; each drawn from a generator.

A fuzzer changes files of a small world (see `hostile.py`), which lies in the working folder, and gives the command to
run on them. What it plants writes the file `CANARY` if it is ever run as code.
"""

import gzip
import io
import json
import math
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

CANARY = "CANARY"
DATASET, RUN = "Dataset301_Toy", "ADNeXtTinyDenseNetTrainer__ADNeXtPlans__3d_fullres"
RAW, PREPARED, RESULTS = Path("raw") / DATASET, Path("preprocessed") / DATASET, Path("results") / DATASET / RUN
TRAINER = ["-tr", "ADNeXtTinyDenseNetTrainer"]
FEW = ["--folds", "0"]  # one network is as good as four to be read
TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../x",
    "/x",
    "../x",
    "a/b",
    "a\\b",
    "x" * 300,
    "x" * 70_000,
    "\x1b[2J\x1b]0;x\x07",
    "a\nb",
    "a\rb",
    "a\0b",
    "é",
    "李明",
    "\u202ex",
    "\ud800",
    "=1+1",
    "@SUM(A1)",
    "-1",
    "+",
    "$\\alpha$x$",
    "%s%n",
    "{0.__class__}",
    "{{7*7}}",
    "nan",
    "inf",
    "1e999",
    "-0",
    "NA",
    "None",
    "true",
    "'",
    '"',
    "`",
    "<script>alert(1)</script>",
    f"__import__('os').mkdir('{CANARY}')",
    f"$(mkdir {CANARY})",
    f"; mkdir {CANARY};",
    f"| mkdir {CANARY}",
    "CON",
    "nul",
    "*",
    "?",
    "[",
    "~",
    "-h",
    "--help",
    "sub-01",
    "0",
    "1",
    "9" * 5000,
    "2020-13-45",
    "0x10",
    "1_0",
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    0.5,
    -0.5,
    1e-300,
    1e300,
    2**31,
    2**63,
    2**70,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
    1e-9,
    4000,
    100_000,
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, [1, "a"], {"a": 1}, [[1, 2], [3]])


class Planted:
    """Makes a folder when it is unpickled by a reader that follows instructions."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path(CANARY).absolute()),)


def odd_value(draw: random.Random) -> Any:
    """A value that stands where another was meant."""
    return draw.choice((draw.choice(TEXTS), draw.choice(NUMBERS), draw.choice(OTHERS)))


# ------------------------------------------------------------------ JSON


def changed_json(content: Any, draw: random.Random) -> Any:
    """The content with one to three of its places changed, removed, doubled or added to."""
    content = json.loads(json.dumps(content))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            return odd_value(draw)
        parent, key = draw.choice(places)
        action = draw.randrange(6)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[draw.choice(TEXTS)] = odd_value(draw)
        elif action == 2:
            parent[key] = [parent[key]]
        elif action == 3 and isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent[key] = odd_value(draw)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """The content cut short, with flipped bits, with other bytes in it, or another content altogether."""
    action, size = draw.randrange(7), max(1, len(content))
    if action == 0:
        return content[: draw.randrange(size)]
    if action in (1, 2):
        changed = bytearray(content or b"\0")
        for _ in range(draw.choice((1, 4, 64))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if action == 3:
        start = draw.randrange(size)
        return content[:start] + draw.randbytes(draw.choice((1, 8, 200))) + content[start:]
    odd = (
        b"",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + content,
        b"[" * 100_000,
        b"{" * 5000,
        b'{"a":' * 3000,
        b"9" * 6000,
        pickle.dumps(Planted()),
    )
    return draw.choice(
        (
            *odd,
            b"NaN",
            b"null",
            b'""',
            b"[]",
            b"{}",
            draw.randbytes(500),
            content.decode("latin-1").encode("utf-16"),
            content * 2,
        )
    )


def place(path: Path, content: bytes, draw: random.Random) -> None:
    """Put content where a file is; sometimes a folder, a link in a circle, a link to nowhere or a pipe instead."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    action = draw.randrange(60)
    if action == 0:
        path.mkdir()
    elif action == 1:
        path.symlink_to(path.name)
    elif action == 2:
        path.symlink_to("nowhere")
    elif action == 3:
        os.mkfifo(path)
    elif action != 4:
        path.write_bytes(content)


def fuzz_json(draw: random.Random) -> list[str]:
    """A JSON file of dataset, plans, folds, run or evaluation, and a command that reads it."""
    scan = next((RAW / "imagesTr").iterdir())
    audit, train = (
        ["adnext_audit", "301", *TRAINER],
        ["adnext_train", "301", "3d_fullres", "0", *TRAINER, "-device", "cpu"],
    )
    quality = ["adnext_quality", "-d", "301", "-np", "1"]
    prepare = ["adnext_plan_and_preprocess", "-d", "301", "-np", "1", "--preset", "preset.json", "--no-pp"]
    predict = ["adnext_predict", "-i", str(scan), "-m", str(RESULTS), "-o", "out", "-device", "cpu", "-np", "1", *FEW]
    evaluate = ["adnext_evaluate", "301", *TRAINER, "--resamples", "100"]
    report, compare = (
        ["adnext_report", "301", *TRAINER],
        ["adnext_compare", "301", TRAINER[1], str(RESULTS), "--resamples", "100"],
    )
    merge, export = (
        ["adnext_merge", "305", "Both", "301", "302"],
        ["adnext_export", str(RESULTS), "-o", "out/m.zip", "-device", "cpu"],
    )
    fold = RESULTS / "fold_0"
    path, commands = draw.choice(
        (
            (PREPARED / "dataset.json", (audit, quality, train, evaluate, merge, compare)),
            (PREPARED / "ADNeXtPlans.json", (audit, quality, train, prepare, merge)),
            (PREPARED / "splits_final.json", (audit, train, evaluate, compare)),
            (PREPARED / "dataset_fingerprint.json", (merge, prepare)),
            (RAW / "dataset.json", (prepare,)),
            (Path("preset.json"), (prepare,)),
            (RESULTS / "plans.json", (predict, report, export, audit, evaluate)),
            (RESULTS / "dataset.json", (predict, report, export)),
            (fold / "validation" / "summary.json", (evaluate, predict, report)),
            (fold / "run.json", (report, train, audit)),
            (RESULTS / "crossval_results" / "metrics.json", (predict, report, compare, export)),
            (Path("preprocessed") / ".adnext_key.json", (audit, train)),
        )
    )
    content = path.read_bytes()
    if draw.random() < 0.7:
        changed = json.dumps(changed_json(json.loads(content), draw), ensure_ascii=draw.random() < 0.5)
        content = changed.encode("utf-8", "surrogatepass")
    else:
        content = damaged_bytes(content, draw)
    place(path, content, draw)
    return draw.choice(commands)


# ------------------------------------------------------------------ tables


def changed_table(text: str, draw: random.Random) -> bytes:
    """A table with odd cells, columns, separators or lengths of rows."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(draw.choice((1, 1, 2, 4))):
        row, action = draw.choice(rows), draw.randrange(9)
        if action <= 3:
            row[draw.randrange(len(row))] = draw.choice((draw.choice(TEXTS), str(draw.choice(NUMBERS[:12]))))
        elif action == 4:
            row.append(draw.choice(TEXTS))
        elif action == 5 and len(row) > 1:
            row.pop()
        elif action == 6:
            rows.insert(draw.randrange(len(rows)), list(draw.choice(rows)))
        elif action == 7 and len(rows) > 1:
            rows.remove(row)
        else:
            column = draw.randrange(len(rows[0]))
            for one in rows:
                one[column : column + 1] = [draw.choice(TEXTS)]
    quote = draw.random() < 0.5
    separator = draw.choice((",", ",", ",", ";", "\t", "|"))
    lines = [separator.join(f'"{cell}"' if quote else cell for cell in row) for row in rows]
    content = draw.choice(("\n", "\n", "\r\n", "\r")).join(lines) + "\n"
    return content.encode(draw.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass")


def fuzz_table(draw: random.Random) -> list[str]:
    """A table to import, or one of ours, and a command that reads it."""
    importing = ["adnext_import", "7", "New", "--table", "table.csv", "-np", "1"]
    importing += draw.choice(
        (["--target", "diagnosis"], ["--regress", "age"], ["--unlabelled"], ["--target", "diagnosis", "--keep", "age"])
    )
    if draw.random() < 0.7:
        importing.append("--dry-run")
    guess = ["adnext_import", "--guess", "table.csv"]
    predict = ["adnext_predict", "-i", "table.csv", "-m", str(RESULTS), "-o", "out", "-device", "cpu", "-np", "1", *FEW]
    evaluate, audit = ["adnext_evaluate", "301", *TRAINER, "--resamples", "100"], ["adnext_audit", "301"]
    prepare = ["adnext_plan_and_preprocess", "-d", "301", "-np", "1", "--preset", "preset.json"]
    path, commands = draw.choice(
        (
            *[(Path("table.csv"), (*[importing] * 20, *[guess] * 4, predict))] * 5,
            (PREPARED / "subjects.csv", (audit, evaluate)),
            (RAW / "subjects.csv", (prepare,)),
            (RESULTS / "fold_1" / "validation" / "predictions.csv", (evaluate,)),
        )
    )
    content = path.read_bytes()
    changed = changed_table(content.decode(), draw) if draw.random() < 0.8 else damaged_bytes(content, draw)
    command = draw.choice(commands)
    if path.name == "table.csv" and draw.random() < 0.1:
        # a workbook, in which bits are flipped; or a table that is called one
        workbook = damaged_bytes(Path("table.xlsx").read_bytes(), draw) if draw.random() < 0.8 else changed
        place(Path("table.xlsx"), workbook, draw)
        return [word.replace("table.csv", "table.xlsx") for word in command]
    place(path, changed, draw)
    return command


# ------------------------------------------------------------------ images


def changed_image(content: bytes, draw: random.Random) -> bytes:
    """A NIfTI file with odd numbers in its header, of an odd shape or type, or with odd voxels."""
    action = draw.randrange(4)
    if action <= 1:
        header = bytearray(gzip.decompress(content))
        for _ in range(draw.choice((1, 2, 4))):
            start, form = draw.choice(
                (
                    (40, "<h"),
                    (42, "<h"),
                    (44, "<h"),
                    (46, "<h"),
                    (48, "<h"),
                    (70, "<h"),
                    (72, "<h"),
                    (76, "<f"),
                    (80, "<f"),
                    (84, "<f"),
                    (88, "<f"),
                    (108, "<f"),
                    (112, "<f"),
                    (116, "<f"),
                    (252, "<h"),
                    (254, "<h"),
                    (0, "<i"),
                    (344, "<i"),
                    (280, "<f"),
                    (296, "<f"),
                    (312, "<f"),
                )
            )
            odd: tuple[float, ...] = (
                (0, -1, 1, 3, 7, 32767, -32768, 128, 1792, 32, 512)
                if form != "<f"
                else (0.0, -1.0, math.nan, math.inf, 1e30, 1e-30, 352.0, 1e9)
            )
            struct.pack_into(form, header, start, draw.choice(odd))
        return gzip.compress(bytes(header), 1)
    if action == 2:
        shape = draw.choice(
            ((1, 1, 1), (8, 8), (8,), (8, 8, 8, 2), (8, 8, 8, 1), (0, 8, 8), (8, 8, 8, 1, 3), (2, 8, 8), (16, 16, 1))
        )
        kind: Any = draw.choice((np.float32, np.float64, np.int16, np.uint8, np.complex64, np.int8, np.uint16))
        voxels = np.full(shape, draw.choice((0, 1, 100)), dtype=kind)
        if voxels.size and draw.random() < 0.5 and np.issubdtype(kind, np.inexact):
            voxels.flat[: voxels.size // 2] = draw.choice((np.nan, np.inf, -np.inf, 3e38))
        image = nibabel.Nifti1Image(voxels, np.diag([draw.choice((1.0, -1.0, 1e-6, 1e6))] * 3 + [1.0]))
        return gzip.compress(image.to_bytes(), 1)
    return damaged_bytes(content, draw)


def fuzz_image(draw: random.Random) -> list[str]:
    """An image, and a command that reads it."""
    scans = sorted((RAW / "imagesTr").iterdir())
    content = scans[0].read_bytes()
    changed = changed_image(content, draw)
    kind = draw.random()
    if kind < 0.8:
        name = draw.choice(("scan.nii.gz", "scan.nii", "scan.nii.gz", "scan.mgz", "scan.hdr", "scan.NII.GZ"))
        place(Path(name), gzip.decompress(content) if name == "scan.nii" and draw.random() < 0.1 else changed, draw)
        Path("table.csv").write_text(f"subject,path,group\na,{name},x\nb,{scans[1]},y\n")
        return [
            "adnext_import",
            "7",
            "New",
            "--table",
            "table.csv",
            "--target",
            "group",
            "-np",
            "1",
            *draw.choice(([], ["--dry-run"], ["--with-masks"])),
        ]
    if kind < 0.85:
        place(Path("scan.nii.gz"), changed, draw)
        return [
            "adnext_predict",
            "-i",
            "scan.nii.gz",
            "-m",
            str(RESULTS),
            "-o",
            "out",
            "-device",
            "cpu",
            "-np",
            "1",
            *FEW,
        ]
    if kind < 0.93:
        place(scans[0], changed, draw)
        return ["adnext_plan_and_preprocess", "-d", "301", "-np", "1", "--preset", "preset.json"]
    stored = draw.choice(sorted((PREPARED / "ADNeXtPlans_3d_fullres").iterdir()))
    place(stored, damaged_bytes(stored.read_bytes(), draw), draw)
    return draw.choice(
        (
            ["adnext_quality", "-d", "301", "-np", "1"],
            ["adnext_audit", "301"],
            ["adnext_train", "301", "3d_fullres", "0", *TRAINER, "-device", "cpu"],
        )
    )


# ------------------------------------------------------------------ bundles


def changed_bundle(content: bytes, draw: random.Random) -> bytes:
    """A bundle with other files in it, or other names, kinds or claims; its manifest mostly fits what is in it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice([*files, "model.json", "model.json", "model.json"])
    if name.endswith(".json"):
        files[name] = json.dumps(changed_json(json.loads(files[name]), draw)).encode()
    elif draw.random() < 0.5:
        files[name] = damaged_bytes(files[name], draw)
    else:
        length = int.from_bytes(files[name][:8], "little")
        header = json.dumps(changed_json(json.loads(files[name][8 : 8 + length]), draw)).encode()
        files[name] = len(header).to_bytes(8, "little") + header + files[name][8 + length :]
    if draw.random() < 0.1:
        names = [text for text in TEXTS if len(text) < 60_000 and "\ud800" not in text]
        files[draw.choice((*names, "fold_9.safetensors", "model.pkl", "__init__.py"))] = pickle.dumps(Planted())
    if name != "manifest.json" and draw.random() < 0.8:
        manifest = json.loads(files["manifest.json"])
        listed = [one for one in files if one != "manifest.json"]
        manifest["files"] = {
            one: {"bytes": len(files[one]), "sha256": sha256(files[one]).hexdigest()} for one in listed
        }
        files["manifest.json"] = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if draw.random() < 0.05 else zipfile.ZIP_STORED) as archive:
        for one, data in files.items():
            entry = zipfile.ZipInfo(one.replace("\0", "") if draw.random() < 0.5 else one or "x")
            entry.external_attr = draw.choice((0o100644, 0o100644, 0o100644, 0o120777, 0o060644)) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def fuzz_bundle(draw: random.Random) -> list[str]:
    """A bundle, and a command that installs it or predicts with it."""
    content = Path("model.zip").read_bytes()
    changed = changed_bundle(content, draw) if draw.random() < 0.75 else damaged_bytes(content, draw)
    place(Path("model.zip"), changed, draw)
    scan = next((RAW / "imagesTr").iterdir())
    predict = ["adnext_predict", "-i", str(scan), "-m", "model.zip", "-o", "out", "-device", "cpu", "-np", "1", *FEW]
    return predict if draw.random() < 0.03 else ["adnext_install", "model.zip", "--name", "new"]


Fuzzer = Callable[[random.Random], list[str]]
