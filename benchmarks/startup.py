"""How long `plsctl --help` takes, against a typer program that does nothing.

Run it as `python benchmarks/startup.py`. Both programs are started in turn, so that a busy machine
slows both; the best and the median of the runs are printed, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = '''
import typer

app = typer.Typer()


@app.callback()
def bare() -> None:
    """Does nothing."""


@app.command()
def hello(name: str = "you") -> None:
    """Say hello."""
    typer.echo(f"hello {name}")


app()
'''


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the times and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="3 runs")
    options = parser.parse_args()
    runs = 3 if options.quick else options.runs
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bare.py"
        program.write_text(BARE, encoding="utf-8")
        bare_command = [sys.executable, str(program), "--help"]
        ours_command = [
            sys.executable, "-c", "from plsctl.cli.app import main; main()", "--help",
        ]  # fmt: skip
        pairs = [(seconds(bare_command), seconds(ours_command)) for _ in range(runs + 1)][1:]
    for name, measure in (("best", min), ("median", statistics.median)):
        bare, ours = (measure(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:7s} bare typer {bare * 1000:.0f} ms, plsctl {ours * 1000:.0f} ms, "
            f"ratio {ours / bare:.2f}"
        )


if __name__ == "__main__":
    main()
