"""Fewer different exposures: cameras whose series have one exposure for all images need them."""

from __future__ import annotations

from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.exposures import Exposure, ExposureTable


def level_exposures(table: ExposureTable, levels: int) -> ExposureTable:
    """The same table with at most so many different amounts of light (exposure time x gain).

    Each frame takes the least amount of its level, so none saturates that did not before; levels
    lie where the greatest loss of any frame is least. Beyond the longest exposure of the table
    the rest is gain, as it was.

    Raises
    ------
    UserError
        There is no level.
    """
    if levels < 1:
        raise UserError(f"{levels} levels are none.", field="levels", hint="Give 1 or more.")
    amounts = sorted({e.exposure_ms * e.gain for e in table.rows.values()})
    if not amounts:
        return table
    low, high = 1.0, amounts[-1] / amounts[0]
    for _ in range(60):
        middle = (low * high) ** 0.5
        if len(_starts(amounts, middle)) <= levels:
            high = middle
        else:
            low = middle
    starts = _starts(amounts, high)
    longest_ms = max(e.exposure_ms for e in table.rows.values())
    rows = {}
    for frame, exposure in table.rows.items():
        amount = max(start for start in starts if start <= exposure.exposure_ms * exposure.gain)
        exposure_ms = min(amount, longest_ms)
        rows[frame] = Exposure(exposure_ms, amount / exposure_ms, exposure.brightness)
    return ExposureTable(rows, table.file)


def greatest_loss(before: ExposureTable, after: ExposureTable) -> float:
    """The largest share of its light that any frame lost."""
    kept = [
        after.rows[frame].exposure_ms
        * after.rows[frame].gain
        / (exposure.exposure_ms * exposure.gain)
        for frame, exposure in before.rows.items()
    ]
    return 1 - min(kept, default=1.0)


def _starts(amounts: list[float], ratio: float) -> list[float]:
    """Where levels begin when no level may span more than a ratio."""
    starts: list[float] = []
    for amount in amounts:
        if not starts or amount > starts[-1] * ratio * (1 + 1e-12):
            starts.append(amount)
    return starts
