"""Every benchmark in its quick form, one after another: whether each still works, and its time.

    python benchmarks/quick.py [TEXT ...]      only those whose path contains a TEXT

What they print goes through. At the end a line for each says how long it took; the exit code is 1
where one failed. Those on real images are left out where PLSCTL_DATA names no folder with the sets.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def scripts() -> list[Path]:
    """Every benchmark: what lies in the folders, without their helpers, and beside this file."""
    found = [*HERE.glob("*.py"), *HERE.glob("*/*.py")]
    return sorted(path for path in found if path.name != Path(__file__).name)


def run(script: Path) -> str:
    """How a benchmark went: "ok", "left out" or "failed"."""
    if "PLSCTL_DATA" in script.read_text("utf-8") and not os.environ.get("PLSCTL_DATA"):
        return "left out: PLSCTL_DATA names no folder"
    done = subprocess.run([sys.executable, str(script), "--quick"], check=False)
    return "ok" if done.returncode == 0 else f"failed with exit code {done.returncode}"


def main() -> None:
    """Run what is asked for, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", metavar="TEXT")
    parser.add_argument("--quick", action="store_true", help="as without it: all is quick here")
    only = parser.parse_args().only
    lines, failed = [], False
    for script in scripts():
        name = script.relative_to(HERE).as_posix()
        if only and not any(text in name for text in only):
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        outcome = run(script)
        failed |= outcome.startswith("failed")
        lines.append(f"{name:32s} {time.monotonic() - began:6.0f} s  {outcome}")
    print("\n".join(["", *lines]))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
