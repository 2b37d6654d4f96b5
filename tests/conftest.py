"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

# Read by the libraries as they are loaded, here and in the processes that tests start. The tests
# are small and share the machine: more threads would wait for each other.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

# Tests are modules without a package: what they share is loaded by its place.
_place = Path(__file__).with_name("objective_watch.py")
_spec = importlib.util.spec_from_file_location("objective_watch", _place)
assert _spec is not None and _spec.loader is not None
objective_watches = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(objective_watches)


@pytest.fixture(scope="session")
def _watch() -> Iterator[Any]:
    watch = objective_watches.ObjectiveWatch()
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch.setattr)
        yield watch


@pytest.fixture(autouse=True)
def objective_watch(_watch: Any) -> Iterator[Any]:
    """Watches every microscope of a test; one that provokes what is forbidden clears it."""
    _watch.begin()
    yield _watch
    assert not _watch.violations, "\n".join(_watch.violations)


@pytest.fixture(scope="session")
def _without_monitor() -> Iterator[Callable[..., None]]:
    from plsctl.acquire.scanning.self_check import SelfCheck

    begin = SelfCheck.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfCheck, "begin", lambda self, taken: None)
        yield begin


@pytest.fixture(autouse=True)
def without_monitor(_without_monitor: Callable[..., None]) -> None:
    """Scans start no process that watches them; `monitored` lets one do so."""


@pytest.fixture
def monitored(_without_monitor: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are compared with what is known of the instrument, as they are for users."""
    from plsctl.acquire.scanning.self_check import SelfCheck

    monkeypatch.setattr(SelfCheck, "begin", _without_monitor)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the real image sets, named by PLSCTL_DATA."""
    folder = os.environ.get("PLSCTL_DATA")
    if not folder:
        pytest.skip("PLSCTL_DATA names no folder with the real image sets")
    return Path(folder)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder in the first of the test processes that asks for it; all of them read it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                path.mkdir()
                make(path)
                made.touch()
        return path

    return folder


@pytest.fixture
def of_before() -> Callable[[Path], None]:
    """Writes the arrays in a folder anew as they were before they carried checksums."""
    return _write_as_before


def _write_as_before(folder: Path) -> None:
    import tensorstore

    for file in folder.rglob("zarr.json"):
        metadata = json.loads(file.read_text(encoding="utf-8"))
        if metadata["node_type"] != "array":
            continue
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(file.parent)}}
        values = tensorstore.open(spec, read=True).result().read().result()
        inner = metadata["codecs"][0]["configuration"]["codecs"]
        inner[:] = [codec for codec in inner if codec["name"] != "crc32c"]
        spec["metadata"] = metadata
        shutil.rmtree(file.parent)
        tensorstore.open(spec, create=True).result().write(values).result()


AT_3_AND_4 = """
import fcntl, os, sys
told, said = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(told, 3), os.dup2(said, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium hears on file descriptor 3 and answers on 4."""


class Browser:
    """A headless Chromium that is told what to do through pipes."""

    def __init__(self, folder: Path) -> None:
        told, tell = os.pipe()
        hear, said = os.pipe()
        assert CHROMIUM is not None
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update",
            "--remote-debugging-pipe", f"--user-data-dir={folder / 'browser'}",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_3_AND_4, str(told), str(said), CHROMIUM, *options],
            pass_fds=(told, said), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        os.close(said)
        self._tell, self._hear, self._number, self._session = tell, hear, 0, ""
        self._rest = b""

    def begin(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                heard = os.read(self._hear, 1 << 16)
                assert heard, "the browser has ended"
                self._rest += heard
            content, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(content)
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        deadline = time.monotonic() + 30
        while not self.value(script):
            assert time.monotonic() < deadline, self.value("document.body.innerText")
            time.sleep(0.02)

    def open(self, address: str, ready: str = "document.readyState === 'complete'") -> None:
        self.call("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)}) && ({ready})")

    def resize(self, width_px: int, height_px: int = 900) -> None:
        """Give the window's inside a size in CSS pixels."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the pressed mouse from one place of the window to another."""
        for kind, (x, y) in (
            ("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end),
        ):  # fmt: skip
            held = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._tell)
        os.close(self._hear)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None or sys.platform == "win32":
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    started = Browser(tmp_path)
    try:
        started.begin()
        yield started
    finally:
        started.close()
