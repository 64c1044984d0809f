"""What commands print, and with `--quiet`, `--verbose` and `--log`, what they do not, and where else."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.errors import PathsError
from adnext_plugin.log import LOG, is_told, telling
from adnext_plugin.progress import EpochProgress, progress_bar


def _command(work: Callable[[], None]) -> Callable[[Sequence[str] | None], int]:
    @command
    def main(argv: Sequence[str] | None = None) -> int:
        assert not vars(new_parser("adnext_test", "").parse_args(argv))
        work()
        return 0

    return main


def _work() -> None:
    print("found 3 scans")
    with telling(print):
        LOG.info("training")
        LOG.debug("what nnU-Net says")
    warnings.simplefilter("always")
    warnings.warn("meant for developers", FutureWarning, stacklevel=1)
    print("a problem", file=sys.stderr)


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ([], ["found 3 scans", "training"], ["a problem"]),
        (["--quiet"], [], ["a problem"]),
        (
            ["-v"],
            ["found 3 scans", "training", "what nnU-Net says", "FutureWarning: meant for developers"],
            ["a problem"],
        ),
    ],
)
def test_a_terminal_is_told_as_much_as_was_asked_for(capsys, options, out, err) -> None:
    assert _command(_work)(options) == 0
    shown = capsys.readouterr()
    assert (shown.out.splitlines(), shown.err.splitlines()) == (out, err)
    assert not LOG.handlers and LOG.level == logging.NOTSET


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_log_has_everything_with_its_time_and_level_and_is_added_to(tmp_path: Path, capsys, quiet) -> None:
    path = tmp_path / "logs" / "run.txt"
    assert _command(_work)([*quiet, "--log", str(path)]) == 0
    lines = [re.sub(r"^[-\d]+ [:,\d]+ ", "", line) for line in path.read_text().splitlines()]
    assert lines[0].startswith("INFO    $ ")
    assert lines[1:] == [
        "INFO    found 3 scans",
        "INFO    training",
        "DEBUG   what nnU-Net says",
        "DEBUG   FutureWarning: meant for developers",
        "WARNING a problem",
    ]
    assert _command(_work)(["--log", str(path)]) == 0
    assert len(path.read_text().splitlines()) == 2 * len(lines)
    assert ("found" in capsys.readouterr().out) or quiet


def test_a_log_has_errors_of_users_and_the_traceback_of_ours(tmp_path: Path, capsys) -> None:
    path = tmp_path / "run.txt"

    def mend() -> None:
        raise PathsError("a.json does not exist")

    def fault() -> None:
        raise KeyError("x")

    assert _command(mend)(["--quiet", "--log", str(path)]) == 2
    assert "a.json does not exist" in path.read_text() and "a.json" in capsys.readouterr().err
    with pytest.raises(KeyError):
        _command(fault)(["--log", str(path)])
    assert "Traceback" in path.read_text()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path, capsys) -> None:
    assert _command(_work)(["--log", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory; it is a folder; name a file\n"


@pytest.mark.parametrize(("options", "shown"), [([], True), (["--quiet"], False)])
def test_bars_are_for_whoever_watches_and_did_not_ask_for_quiet(capsys, monkeypatch, options, shown) -> None:
    def work() -> None:
        monkeypatch.setattr(sys.stderr._stream, "isatty", lambda: True)
        list(progress_bar(range(3), desc="Counting"))

    assert _command(work)(options) == 0
    assert ("Counting" in capsys.readouterr().err) == shown


def test_what_nnunet_prints_of_its_search_is_kept_from_the_terminal_and_all_else_is_not(capsys, caplog) -> None:
    theirs: dict = {"__name__": "nnunetv2.utilities.find_objects"}
    mine: dict = {"__name__": "my_trainer"}
    code = compile("def say(): print('Searching', 'in', 'folder')", "", "exec")
    for module in (theirs, mine):
        exec(code, module)
    caplog.set_level(logging.DEBUG, "adnext_plugin")
    with telling(print):
        assert is_told()
        theirs["say"]()
        assert capsys.readouterr().out == "" and caplog.messages == ["Searching in folder"]
        mine["say"]()
        assert capsys.readouterr().out == "Searching in folder\n"
    assert not is_told()


def test_a_run_that_nobody_watches_has_a_line_a_minute_and_one_under_nnunets_command_for_every_epoch(
    capsys, monkeypatch
) -> None:
    clock = iter([0.0, 59.0, 60.0, 61.0])
    monkeypatch.setattr("adnext_plugin.progress.time.monotonic", lambda: next(clock))
    unwatched = EpochProgress("Fold 0", epochs=4, done=0, steps=2)
    assert [unwatched.epoch(number, "") for number in (1, 2, 3, 4)] == [True, False, True, False]
    theirs = EpochProgress("Fold 0", epochs=4, done=0, steps=2, is_bar=False)
    assert all(theirs.epoch(number, "") for number in (1, 2, 3, 4))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watched = EpochProgress("Fold 0", epochs=4, done=1, steps=2)
    watched.step()
    assert not watched.epoch(2, "selection AUC 0.800")
    watched.close()
    assert "Fold 0" in (shown := capsys.readouterr().err) and "epoch 2/4 selection AUC 0.800" in shown
