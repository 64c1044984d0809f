"""Progress bars: for whoever watches, and for nobody else."""

import sys

import pytest

from adnext_plugin.parallel import for_each


def _double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("watched", [True, False])
def test_a_bar_is_shown_in_a_terminal_and_not_written_to_a_pipe(capsys, monkeypatch, watched: bool) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    found = dict(for_each(_double, [1, 2, 3], processes=1, description="Doubling"))
    assert found == {0: 2, 1: 4, 2: 6}
    assert ("Doubling" in capsys.readouterr().err) == watched
