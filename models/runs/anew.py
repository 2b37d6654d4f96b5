"""A run folder that is begun anew: the old run is thrown away once the new one stands."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.locations import is_remote, real_path
from plsctl.acquire.files.whole_files import locked

ASIDE = ".before"
"""Where the old run lies until the new one stands."""

LOCK = ".lock"
MARK = "facts.json"
"""The file that makes a folder a staining run."""

MARKS = (MARK, "task.json", "zarr.json")
"""Files that make a folder a run, or a data set."""


def entries(folder: Path) -> list[Path]:
    """What lies in a run folder, without its lock and an old run put aside."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, ASIDE)]


def holds_old_run(folder: Path) -> bool:
    """Whether a run was put aside there and none has taken its place."""
    return any((folder / ASIDE / mark).is_file() for mark in MARKS)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, however both are spelt or linked."""
    if is_remote(path) or is_remote(folder) or not real_path(folder).exists():
        return False
    place, folder = real_path(path), real_path(folder)
    return any(each.exists() and each.samefile(folder) for each in (place, *place.parents))


def refuse_loss(folder: Path, inputs: Mapping[str, Path]) -> None:
    """Raise UserError where beginning a folder anew would throw away more than an old run.

    Parameters
    ----------
    inputs
        What the new run reads, by the name of its option.
    """
    for option, path in inputs.items():
        if lies_in(path, folder):
            raise UserError(
                f"--fresh would throw away {path}, which {option} names: it is in {folder}.",
                field="fresh",
                hint="Choose another --out, or leave --fresh out.",
            )
    if not folder.exists():
        return
    inner = (path for mark in MARKS for path in sorted(real_path(folder).rglob(mark)))
    for path in inner:
        if path.parent != real_path(folder) and ASIDE not in path.parts:
            kind = "data set" if path.name == "zarr.json" else "run"
            raise UserError(
                f"--fresh would throw away another {kind}: {path.parent} lies in {folder}.",
                field="fresh",
                hint="Move it elsewhere, or choose another --out.",
            )


@contextmanager
def only_training(folder: Path, mark: str = MARK) -> Iterator[None]:
    """Let no other process train in a run folder meanwhile; a new one that stays empty goes.

    Parameters
    ----------
    mark
        The file that makes the folder a run.

    Raises
    ------
    UserError
        Another one does.
    """
    is_new = not folder.exists()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "Wait until it has ended, or choose another folder with --out."):
        settle(folder, mark)
        try:
            yield
        finally:
            if is_new and folder.is_dir() and not entries(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def begun_anew(folder: Path, mark: str) -> Iterator[None]:
    """Put an old run aside; delete it when the block has made a new one, else put it back.

    Parameters
    ----------
    mark
        The file that makes the folder a run; the block writes it last.
    """
    aside = folder / ASIDE
    with disk_errors(folder):
        aside.mkdir(exist_ok=True)
        for path in _marked(entries(folder), mark, last=False):
            path.rename(aside / path.name)
    try:
        yield
    except BaseException:
        for path in _marked(entries(folder), mark, last=False):
            _remove(path)
        settle(folder, mark)
        raise
    settle(folder, mark)


def settle(folder: Path, mark: str) -> None:
    """End what a kill has interrupted: put an old run back, or delete it where a new one stands."""
    aside = folder / ASIDE
    if not aside.is_dir():
        return
    with disk_errors(folder):
        if not (folder / mark).is_file():
            for path in _marked(aside.iterdir(), mark, last=True):
                _remove(folder / path.name)
                path.rename(folder / path.name)
    shutil.rmtree(aside, ignore_errors=True)


def _marked(paths: Iterable[Path], mark: str, last: bool) -> list[Path]:
    """The file that makes a run first or last: half a run must not pass for one."""
    return sorted(paths, key=lambda path: (path.name == mark) == last)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
