"""What one LED change costs over each link: `python benchmarks/acquire/led_round_trip.py`.

The controller is emulated and answers at once (the link and the driver alone) or after the 1.5 ms
that a real one takes.
"""

from __future__ import annotations

import argparse
import statistics
import time

from plsctl.acquire.clock import WallClock
from plsctl.acquire.leds.array import LedArraySettings, open_led_array
from plsctl.acquire.leds.geometry import standard_array
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.ports import register, serve_pty, serve_tcp

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
CHANGES, QUICK_CHANGES = 500, 50


def measure(port: str, changes: int) -> tuple[float, float]:
    """Median and 99th percentile of one `light` call, in milliseconds."""
    times: list[float] = []
    with open_led_array(LedArraySettings(port=port, geometry="leds_43.csv")) as array:
        for index in range(changes):
            started = time.perf_counter()
            array.light([index % 43])
            times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Print one line per link and controller."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CHANGES} changes")
    changes = QUICK_CHANGES if parser.parse_args().quick else CHANGES
    for round_trip_ms in (0.0, 1.5):
        board = IlluminateFirmware(PLACES, WallClock(), round_trip_s=round_trip_ms / 1e3)
        report("in process", round_trip_ms, measure(register("benchmark", board), changes))
        for name, serve in (("socket", serve_tcp), ("pty", serve_pty)):
            with serve(board) as server:
                report(name, round_trip_ms, measure(server.url, changes))


def report(link: str, round_trip_ms: float, found: tuple[float, float]) -> None:
    """One line of the table."""
    print(
        f"{link:12} controller {round_trip_ms} ms: median {found[0]:.3f} ms, 99 % {found[1]:.3f} ms"
    )


if __name__ == "__main__":
    main()
