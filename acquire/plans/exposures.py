"""The exposure table: exposure time, gain and brightness of each LED's image.

Cameras whose series have one exposure for all images need a table of fewer levels.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.shipped import SHIPPED, shipped_names
from plsctl.acquire.files.tables import number, read_table
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.plans.recipe_frames import Frame
from plsctl.acquire.plans.recipes import Recipe
from plsctl.acquire.words import command_line

COLUMNS = ("led", "variant", "exposure_ms", "gain", "brightness")


@dataclass(frozen=True)
class Exposure:
    """How one frame is taken; gain is a linear factor, brightness a share of the LED's light."""

    exposure_ms: float
    gain: float = 1.0
    brightness: float = 1.0


@dataclass(frozen=True)
class ExposureTable:
    """Exposures by frame: the image's name (LED, `brightfield` or label) and its variant."""

    rows: dict[Frame, Exposure]
    file: Path | None = None
    lines: dict[str, int] = dataclass_field(default_factory=dict, compare=False)
    """Lines of the file by a frame's label."""

    def exposure(self, frame: Frame, recipe: Recipe | None = None) -> Exposure:
        """The exposure of a frame; `UserError` names the LED that the table lacks.

        `recipe` is what asks for it, and is named in the remedy.
        """
        try:
            return self.rows[frame]
        except KeyError:
            variant = f" (variant '{frame.variant}')" if frame.variant else ""
            own = "" if recipe is None or recipe.file is None else f" --recipe {recipe.file}"
            raise UserError(
                f"the exposure table has no row for the LED '{frame.led}'{variant}, which the "
                "recipe takes.",
                file=self.file,
                field="led",
                hint=f"Add the row, or measure the table anew: plsctl calibrate exposures{own}.",
            ) from None


def load_exposures(path: Path) -> ExposureTable:
    """Read an exposure table (CSV: led, variant, exposure_ms, gain, brightness)."""
    if not path.is_file():
        measure = command_line("calibrate", "exposures", "--hardware", "FILE", "-o", path)
        theirs = (
            f" The simulated microscope's comes with plsctl and is named {SHIPPED}{path.name}."
            if path.name in shipped_names(".csv")
            else ""
        )
        raise UserError(
            "there is no such exposure table.", file=path, hint=f"Measure it: {measure}.{theirs}"
        )
    rows: dict[Frame, Exposure] = {}
    lines: dict[str, int] = {}
    for line, row in read_table(path, COLUMNS):
        if row["variant"] not in ("", "low", "high"):
            raise UserError(
                f"variant '{row['variant']}' is unknown.",
                file=path,
                line=line,
                field="variant",
                hint="Allowed: low, high, or nothing.",
            )
        frame = Frame(row["led"], row["variant"])  # type: ignore[arg-type]
        if frame in rows:
            raise UserError(f"'{frame.label}' stands in the table twice.", file=path, line=line)
        exposure = Exposure(
            exposure_ms=number(row, "exposure_ms", path, line),
            gain=number(row, "gain", path, line),
            brightness=number(row, "brightness", path, line),
        )
        _check(exposure, path, line)
        rows[frame] = exposure
        lines[frame.label] = line
    return ExposureTable(rows, path, lines)


def _check(exposure: Exposure, path: Path, line: int) -> None:
    limits = {
        "exposure_ms": (exposure.exposure_ms, 0.0, 60_000.0),
        "gain": (exposure.gain, 0.0, 1000.0),
        "brightness": (exposure.brightness, 0.0, 1.0),
    }
    for field, (value, low, high) in limits.items():
        if not low < value <= high:
            raise UserError(
                f"{field} = {value:g} is out of range.",
                file=path,
                line=line,
                field=field,
                hint=f"It must be above {low:g} and at most {high:g}.",
            )


def save_exposures(table: ExposureTable, path: Path) -> None:
    """Write the table that `load_exposures` reads."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for frame, exposure in table.rows.items():
        writer.writerow(
            [
                frame.led,
                frame.variant,
                f"{exposure.exposure_ms:g}",
                f"{exposure.gain:g}",
                f"{exposure.brightness:g}",
            ]
        )
    write_whole(path, text.getvalue())


def level_exposures(table: ExposureTable, levels: int, dim: bool = False) -> ExposureTable:
    """The same table with at most so many different amounts of light (exposure time x gain).

    Each frame takes the least amount of its level, so none saturates that did not before; levels
    lie where the greatest loss of any frame is least. Beyond the longest exposure of the table
    the rest is gain, as it was.

    With `dim` it takes the greatest amount of its level instead, and its LEDs shine less: nothing
    is lost, on arrays whose brightness can be set.

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
        own = exposure.exposure_ms * exposure.gain
        amount = max(start for start in starts if start <= own)
        if dim:
            following = [start for start in starts if start > amount]
            limit = min(following, default=math.inf)
            amount = max(each for each in amounts if amount <= each < limit)
        exposure_ms = min(amount, longest_ms)
        brightness = exposure.brightness * (own / amount if dim else 1.0)
        rows[frame] = Exposure(exposure_ms, amount / exposure_ms, brightness)
    return ExposureTable(rows, table.file)


def greatest_loss(before: ExposureTable, after: ExposureTable) -> float:
    """The largest share of its light that any frame lost."""
    kept = [
        after.rows[frame].exposure_ms
        * after.rows[frame].gain
        * after.rows[frame].brightness
        / (exposure.exposure_ms * exposure.gain * exposure.brightness)
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
