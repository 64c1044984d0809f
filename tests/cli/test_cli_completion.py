"""The Tab key, as bash asks for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from adnext_plugin.cli.completion import _options, script

OPTIONS = {"train": ["--help", "--seed", "--seeds"], "evaluate": ["--baseline", "--external"]}
TRAINERS = ["ADNeXtTrainer_T", "ADNeXtTrainer_T_Small", "ADNeXtLinearTrainer"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("adnext tr", ["train"]),
        ("adnext train --se", ["--seed", "--seeds"]),
        ("adnext_evaluate 101 --ba", ["--baseline"]),
        ("/usr/bin/adnext_train 101 -tr ADNeXtTrainer", ["ADNeXtTrainer_T", "ADNeXtTrainer_T_Small"]),
        ("adnext_train sca", ["scans.csv"]),
        ("adnext_other --se", []),
    ],
)
def test_words_are_completed(tmp_path: Path, line: str, expected: list[str]) -> None:
    (tmp_path / "scans.csv").touch()
    (tmp_path / "script").write_text(script(OPTIONS, TRAINERS))
    asked = f"source ./script; COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; _adnext"
    ask = asked + '; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_options_are_those_of_the_commands_help() -> None:
    assert {"--device", "-device", "--pretrained-weights", "--quiet"} <= set(_options("train"))
