"""Whether a slide can be used: stain, light over the scan, matches; accepted or rejected, and why.

8 of the 44 slides of papers/002 (section 3.1.3) were discarded by eye, for misstaining or faulty
lighting. Here the slide's own samples decide, against stated limits and the other slides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from plsctl.process.quality.checks import FEW
from plsctl.process.quality.flags import REJECTED, QualitySettings, SlideLimits, count_flags

MISMATCHES = ("match_20x", "match_100x", "position_unmatched")
"""Reasons for dropping a cell that count against the match of the slide."""

UNFOCUSED = {
    "stained_out_of_focus": "stained",
    "unstained_out_of_focus": "unstained",
    "out_of_focus": "unstained or the stained",
}
"""Reasons for dropping a cell that count against the focus of a pass, and that pass."""

FRAME_FLAGS = ("frame_shift", "frame_swap", "frame_misfit")
BLUR_FLAGS = ("blurred_input", "blurred_20x", "blurred_100x")

LEAST = 3
"""A pass is called out of focus as a whole from so many samples on."""

DETAIL = -0.35
"""Usual sharpness of the unstained image of a cell (`focus_input`)."""


@dataclass(frozen=True)
class SlideVerdict:
    """One slide of a data set: accepted or not, and the reasons why not, one sentence each.

    `excluded` of its samples are left out for their own flags; `flags` counts all that were raised;
    `notes` say what else a user should know, without being a reason.
    """

    slide: str
    accepted: bool
    reasons: tuple[str, ...]
    samples: int
    excluded: int
    flags: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The verdict for the attributes of a data set and for JSON."""
        lists = {"reasons": list(self.reasons), "notes": list(self.notes)}
        return asdict(self) | lists | {"flags": dict(self.flags)}


def slide_verdicts(
    table: pd.DataFrame,
    dropped: Mapping[str, Mapping[str, int]],
    doubts: Mapping[str, Sequence[str]],
    settings: QualitySettings,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> list[SlideVerdict]:
    """Verdicts on the slides of a table with flags, and on slides that gave no sample.

    Parameters
    ----------
    table
        As `flag_samples` gives it.
    dropped
        Cells of each slide that were dropped, by reason.
    doubts
        What was found of each slide's frames as a whole (`FrameReference.doubts`).
    notes
        What else is said of each slide.
    """
    slides = table["slide"].astype(str)
    others = table.groupby(slides)["nucleus_green"].median() if "nucleus_green" in table else None
    verdicts = []
    for name in sorted({*slides, *dropped}):
        rows = table[slides == name]
        lost = dropped.get(name, {})
        reasons = list(doubts.get(name, ()))
        reasons += _unfocused(rows, lost, settings) or _focus(rows, settings)
        reasons += _mismatch(len(rows), lost, settings.slides)
        if not len(rows):
            reasons += _empty(lost)
        if len(rows) >= FEW:
            reasons += _frames(rows, settings.slides)
            if others is not None:
                reasons += _stain(rows, others.drop(name), settings.slides)
                reasons += _light(rows, settings.slides)
        verdicts.append(
            SlideVerdict(
                name,
                not reasons,
                tuple(reasons),
                len(rows),
                int((rows["excluded"] != "").sum()),
                count_flags(rows["flags"]),
                tuple((notes or {}).get(name, ())),
            )
        )
    return verdicts


def reasons_for_none(dropped: Mapping[str, int], settings: QualitySettings) -> list[str]:
    """Why none of the cells gave a sample, as far as their outcomes tell: focus, or mismatches."""
    found = _unfocused(pd.DataFrame(), dropped, settings)
    return found + _mismatch(0, dropped, settings.slides)


def exclude_rejected(
    table: pd.DataFrame, verdicts: Sequence[SlideVerdict], settings: QualitySettings
) -> pd.DataFrame:
    """Exclude the samples of rejected slides too, unless the settings keep them."""
    if settings.keep_rejected_slides:
        return table
    rejected = {verdict.slide for verdict in verdicts if not verdict.accepted}
    gone = table["slide"].astype(str).isin(rejected)
    reasons = (REJECTED + ";" + table["excluded"]).str.rstrip(";")
    return table.assign(excluded=table["excluded"].where(~gone, reasons))


def _share(rows: pd.DataFrame, flags: Sequence[str]) -> float:
    """Share of the samples that have one of the flags."""
    raised = rows["flags"].str.split(";").map(lambda names: not set(names).isdisjoint(flags))
    return float(raised.mean())


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _mismatch(samples: int, dropped: Mapping[str, int], limits: SlideLimits) -> list[str]:
    lost = sum(dropped.get(reason, 0) for reason in MISMATCHES)
    cells = lost + samples + sum(dropped.get(reason, 0) for reason in UNFOCUSED)
    share = lost / max(cells, 1)
    if cells < FEW or share <= limits.mismatched:
        return []
    return [f"mismatch: {_percent(share)} of the cells were not found again in another pass"]


def _empty(dropped: Mapping[str, int]) -> list[str]:
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return [f"empty: none of its cells gave a sample ({counts or 'no cell was found'})"]


def _frames(rows: pd.DataFrame, limits: SlideLimits) -> list[str]:
    share = _share(rows, FRAME_FLAGS)
    if share <= limits.bad_frames:
        return []
    return [f"frames: in {_percent(share)} of the samples the frames do not show one scene"]


def _unfocused(
    rows: pd.DataFrame, dropped: Mapping[str, int], settings: QualitySettings
) -> list[str]:
    """The reason against a slide too many of whose cells lie where a pass is out of focus.

    Such a pass shows other rings at cells that are thin, not weaker ones, and its cells are not
    found again: it would pass for sharp, or for another place.

    Parameters
    ----------
    rows
        The slide's samples.
    dropped
        Its cells that were dropped, by reason.
    """
    counts = Counter({name: dropped.get(reason, 0) for reason, name in UNFOCUSED.items()})
    for column, name in (("shared_20x", "stained"), ("shared_input", "unstained")):
        if column in rows:
            values = pd.to_numeric(rows[column], errors="coerce")
            counts[name] += int((values < settings.samples.shared_detail).sum())
    bad = counts.total()
    kept = len(rows) + sum(dropped.get(reason, 0) for reason in (*MISMATCHES, *UNFOCUSED))
    if bad < LEAST or bad <= settings.slides.blurred * kept:
        return []
    name, most = counts.most_common(1)[0]
    if 2 * most <= bad:
        name = "unstained or the stained"
    return [
        f"focus: the {name} images are out of focus: at {_percent(bad / kept)} of the cells their "
        "fine detail is not that of the other pass"
    ]


def _focus(rows: pd.DataFrame, limits: QualitySettings) -> list[str]:
    """Passes that are out of focus as a whole, else too many samples that are.

    A pass that is blurred all over is its own standard; the other passes show it.
    """
    least = limits.samples
    low, high = _median(rows, "focus_20x"), _median(rows, "focus_100x")
    own = _median(rows, "focus_input")
    found = []
    # Sharp at 100x and not at 20x, or sharp unstained and not stained.
    if low < least.least_focus_20x:
        found.append(("stained", low, "the unstained ones"))
    elif low > least.most_focus_20x:
        found.append(("unstained", -low, "the stained ones"))
    elif high > least.most_focus_100x:
        found.append(("unstained and the stained", -high, "the 100x ones"))
    elif own < limits.slides.focus_input:
        found.append(("unstained", own - DETAIL, "images in focus usually"))
    if high < least.least_focus_100x:
        found.append(("100x", high, "the stained 20x ones"))
    reasons = [
        f"focus: the {name} images are out of focus: their fine detail is {np.exp(ratio):.1f} "
        f"times as strong as {others} show it"
        for name, ratio, others in found
    ]
    share = _share(rows, BLUR_FLAGS)
    if not reasons and len(rows) >= FEW and share > limits.slides.blurred:
        reasons.append(f"focus: {_percent(share)} of the samples are blurred")
    return reasons


def _median(rows: pd.DataFrame, name: str) -> float:
    """The median of a measure; not a number, and within no limits, where too few have it."""
    values = pd.to_numeric(rows[name], errors="coerce") if name in rows else pd.Series(dtype=float)
    return float(values.median()) if values.count() >= LEAST else np.nan


def _stain(rows: pd.DataFrame, others: pd.Series[float], limits: SlideLimits) -> list[str]:
    red, green = float(rows["nucleus_red"].median()), float(rows["nucleus_green"].median())
    low, high = limits.nucleus
    reasons = []
    if not low <= green <= high:
        reasons.append(
            f"misstained: nuclei absorb {green:.2f} in green, {low:g} to {high:g} is usual"
        )
    low, high = limits.nucleus_red_to_green
    if green > 0 and not low <= red / green <= high:
        reasons.append(
            f"misstained: nuclei absorb {red / green:.2f} times as much red as green, "
            f"{low:g} to {high:g} is usual"
        )
    tint = _tint(rows)
    if tint > limits.glass:
        reasons.append(
            f"misstained: glass is tinted, it absorbs {tint:.2f} more in green than in red and "
            f"blue, at most {limits.glass:g}"
        )
    usual = float(others.median()) if len(others) >= 2 else green
    factor = max(green, usual) / max(min(green, usual), 1e-3)
    if factor > limits.stain_against_others:
        reasons.append(
            f"misstained: nuclei absorb {green:.2f} in green, those of the other slides {usual:.2f}"
        )
    return reasons


def _tint(rows: pd.DataFrame) -> float:
    """What glass absorbs in green beyond red and blue, since staining; 0 where it is not known.

    LEDs that lost light make the stained images darker in all colours: that is no stain.
    """
    names = ["glass_red", "glass_green", "glass_blue"]
    if not set(names) <= set(rows):
        return 0.0
    red, green, blue = (rows[name] for name in names)
    found = float((green - (red + blue) / 2).median())
    return 0.0 if np.isnan(found) else found


def _light(rows: pd.DataFrame, limits: SlideLimits) -> list[str]:
    levels = rows.groupby("position")["light"].median()
    low, middle, high = np.percentile(levels, [5, 50, 95])
    spread = float((high - low) / max(middle, 1e-6))
    reasons = []
    if spread > limits.light_spread:
        reasons.append(f"light: the bright field varies by {_percent(spread)} over the scan")
    share = _share(rows, ("frame_light", "saturated"))
    if share > limits.bad_light:
        reasons.append(f"light: frames of {_percent(share)} of the samples are too bright or dark")
    return reasons
