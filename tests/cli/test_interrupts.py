"""However often and in whatever way a command is interrupted, it ends in one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PROGRAM = """
import sys, threading, time
import typer, typer.main
import plsctl.cli.app as frame
from plsctl.acquire import interrupt
from plsctl.acquire.interrupt import stop_on_signals
from plsctl.acquire.store.disk_queue import DiskQueue

interrupt.GIVE_UP_S = 1.0
hangs = sys.argv.pop() == "hangs"

def work() -> None:
    queue = DiskQueue(1)
    with stop_on_signals() as stop:
        try:
            if hangs:
                queue.put(threading.Event().wait)
            print("ready", flush=True)
            while True:
                stop.check()
                time.sleep(0.005)
        finally:
            queue.settle()

command = typer.Typer()
command.command()(work)
frame.COMMANDS["work"] = ("", "")
frame._load = lambda name: typer.main.get_command(command)
frame.main()
"""


@pytest.mark.parametrize(
    ("hangs", "signals"),
    [
        (False, [signal.SIGINT]),
        (False, [signal.SIGINT] * 20),
        (False, [signal.SIGQUIT]),
        (True, [signal.SIGINT] * 2),
        (True, [signal.SIGINT] * 20),
    ],
    ids=["once", "twenty", "quit", "hanging disk", "hanging disk, twenty"],
)
def test_an_interrupted_command_ends_without_a_trace(
    hangs: bool, signals: list[signal.Signals]
) -> None:
    words = [sys.executable, "-c", PROGRAM, "work", "hangs" if hangs else "writes"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in signals:
        os.kill(process.pid, number)
        # Two at once may be heard as one.
        time.sleep(0.05 if len(signals) == 2 else 0.002)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert told.count("error: ") == 1
