"""What data holds never steers the terminal that shows it."""

from __future__ import annotations

import pytest

from luthier.cli.tables import show_error
from luthier.core.errors import DataError
from luthier.core.printable import harmless, printable


def test_active_characters_are_shown_as_codes_and_all_others_stay() -> None:
    assert printable("a\x1b[31m\x00\x9b\u202e\ud800\r") == "a\\x1b[31m\\x00\\x9b\\u202e\\ud800\\r"
    kept = "größer\tτ 狼 🐺 \u200d\n[bold]"
    assert printable(kept) == kept
    assert harmless("[bold]x[/]") == "\\[bold]x\\[/]"


def test_an_error_about_hostile_rows_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J[red]row[/]"
    show_error(DataError(hostile, where=hostile, expected=hostile, remedy=hostile))
    shown = capsys.readouterr().err
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert shown.count("\\x1b]0;owned\\x07\\x1b[2J[red]row[/]") == 4
