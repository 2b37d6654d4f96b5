"""The scores of a run as sections of a report: similarity, nuclei, and how true its errors are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plsctl.acquire.errors import UserError
from plsctl.process.report_charts import curves
from plsctl.process.report_page import Section, grid, table

_NAMES = {
    "unstained": "the unstained image itself",
    "mean_colour": "mean colour of the training targets",
    "mean_target": "mean image of the training targets",
}
_METRICS = {
    "ssim": "SSIM, colours",
    "ssim_grey": "SSIM, luminance",
    "ssim_shifted": "SSIM, best shift within 2 px",
    "mae": "mean absolute error (-1 to 1)",
}


def score_sections(path: Path) -> list[Section]:
    """Sections on what `plsctl evaluate` and `plsctl uncertainty` found; without it, none."""
    sections = []
    scores = read_scores(path)
    if scores is not None:
        sections += [_score_section(scores), _nucleus_section(scores)]
    errors = _read(path / "uncertainty_test.json", "uncertainty")
    if errors is not None:
        sections.append(_error_section(errors))
    return sections


def read_scores(path: Path) -> dict[str, Any] | None:
    """What the last evaluation of a run found, or None.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    return _read(path / "metrics.json", "evaluate")


def _read(file: Path, command: str) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(
            "the scores of the run cannot be read.", file=file, hint=f"Run plsctl {command} again."
        ) from None
    return found


def _score_section(scores: dict[str, Any]) -> Section:
    names = list(scores["metrics"])
    rows = [("the network", *(_with_interval(scores["metrics"][name]) for name in names))]
    rows += [
        (_NAMES.get(key, key), *(_with_interval(values[name]) for name in names))
        for key, values in scores["baselines"].items()
    ]
    note = (
        f"Mean over {scores['samples']} cells of the {scores['split']} split, which the network "
        "never saw, with the 95 % interval; below it what needs no training at all."
    )
    columns = ("prediction", *(_METRICS.get(name, name) for name in names))
    similarity = [scores["metrics"], *scores["baselines"].values()]
    best = max(range(len(rows)), key=lambda index: similarity[index]["ssim"]["mean"])
    return Section("Scores", note, table(columns, rows, best=best))


def _with_interval(score: dict[str, Any]) -> str:
    low, high = score["ci95"]
    return f"{score['mean']:.3f} ({low:.3f}-{high:.3f})"


def _nucleus_section(scores: dict[str, Any]) -> Section:
    types = scores.get("cell_types", {})
    rows = [
        (
            _NAMES.get(key, "the network"),
            _optional(found["dice"]),
            _counted(found["lost"], found["lost_share"]),
            _counted(found["invented"], found["invented_share"]),
            _optional((found.get("lobes") or {}).get("same_share")),
            _optional(types.get(key, {}).get("agreement")),
        )
        for key, found in scores["nuclei"].items()
        if isinstance(found, dict)
    ]
    note = (
        f"Beside the {scores['nuclei']['prediction']['nuclei']} whole nuclei of the stained "
        "images: how far their areas agree, which are lost or invented, how many have as many "
        "lobes, and how many cells a classifier reads as the same type (where it was asked)."
    )
    left = scores.get("marks_left", {}).get("prediction")
    if left is not None:
        note += (
            f" Of the darkness of rims and rings in the unstained images "
            f"{100 * left['mean']:.0f} % is left."
        )
    columns = ("", "Dice", "lost", "invented", "lobes as stained", "type as stained")
    return Section("Nuclei and types", note, table(columns, rows))


def _error_section(found: dict[str, Any]) -> Section:
    predicted, measured = (
        [255 * point[name] for point in found["curve"]] for name in ("predicted", "measured")
    )
    coverage = ", ".join(
        f"{100 * value['mean']:.0f} % below the limit of {100 * float(share):.0f} %"
        for share, value in found["coverage"].items()
    )
    note = (
        f"Error that the run expects of its own predictions, over {found['samples']} cells of the "
        f"{found['split']} split. A point for each tenth of the pixels; they are "
        f"{100 * found['calibration_error_share']:.0f} % of the mean error away from where they "
        f"should be, and of the errors {coverage}."
    )
    lines = {"as expected": ([0.0, max(predicted)],) * 2, "measured": (predicted, measured)}
    names = ("error expected (of 255)", "error measured (of 255)")
    chart = curves(lines, *names, names_below=True)
    # Half the page is wide enough.
    return Section("Expected errors", note, grid(chart, columns=2))


def _optional(score: dict[str, Any] | None) -> str:
    return "-" if score is None else _with_interval(score)


def _counted(count: int, share: dict[str, Any] | None) -> str:
    return f"{count}: {_optional(share)}"
