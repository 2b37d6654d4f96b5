"""A damaged line of the journal costs that line, and is told from one torn by a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from plsctl.acquire.store.journal import Journal, damaged_lines, read_journal, since_begun


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "scan.jsonl"
    journal = Journal(path)
    journal.append("pass_started", pass_name="unstained")
    journal.append("verdict", safe_to_stain=True, problems=[])
    journal.close()
    return path


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b'{"event": "verdict", "safe_to_stain": fa\xffse}',
        b'{"time": "now"}',
        b'{"event": 3}',
        b'["event"]',
        b"\0" * 64,
        b'{"event": "verdict", "time": "now"}',
        b'{"event": "focus_plane", "pass_name": "unstained", "z0_um": 1.0}',
        b"null",
    ],
)
def test_a_damaged_line_is_left_out_and_told(journal: Path, line: bytes) -> None:
    first, second = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join((first, line, second)) + b"\n")
    assert [event["event"] for event in read_journal(journal)] == ["pass_started", "verdict"]
    assert damaged_lines(journal) == [2]
    assert len(since_begun(journal, "unstained")) == 1


def test_lines_torn_by_a_kill_are_no_damage(journal: Path) -> None:
    whole = journal.read_bytes()
    last = whole.splitlines()[-1]
    for length in range(len(last)):
        journal.write_bytes(whole + last[:length] + b"\n" + whole)
        assert damaged_lines(journal) == [], last[:length]
        assert len(list(read_journal(journal))) == 4
