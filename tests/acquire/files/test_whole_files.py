from __future__ import annotations

import errno
from pathlib import Path

import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.files import whole_files
from plsctl.acquire.files.whole_files import locked, write_whole


@pytest.mark.parametrize("content", ["a,b\r\nµ,1\n", b"\x00\xff\r\n"])
def test_a_file_is_replaced_whole_or_stays(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    data = content.encode() if isinstance(content, str) else content
    write_whole(path, content)
    assert path.read_bytes() == data

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="disk is full; what was written before is kept") as error:
        write_whole(path, b"other")
    assert error.value.file == str(path)
    assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOLCK, "gives no locks .*local disk"),
        (errno.EOPNOTSUPP, "gives no locks"),
        (errno.EWOULDBLOCK, "another plsctl is writing"),
    ],
)
def test_a_file_system_without_locks_is_no_other_program(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(whole_files, "_lock", refuse)
    with pytest.raises(UserError, match=told), locked(tmp_path):
        pass
