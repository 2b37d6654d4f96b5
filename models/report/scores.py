"""The scores of a run as sections of a report: similarity, nuclei, and how true its errors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plsctl.models.evaluation.scores import read_results, read_scores, seen_text
from plsctl.process.pages.tables import Best, Noted, Score, table
from plsctl.process.report.charts import curves
from plsctl.process.report.page import Section, verdict

_NAMES = {
    "unstained": "the unstained image itself",
    "mean_colour": "mean colour of the training targets",
    "mean_target": "mean image of the training targets",
}
_METRICS = {
    "ssim": "SSIM, colours",
    "ssim_grey": "SSIM, luminance",
    "ssim_shifted": "SSIM, shifted by up to 2 px",
    "mae": "mean absolute error (-1 to 1)",
}


def score_sections(path: Path) -> list[Section]:
    """Sections on what `plsctl evaluate` and `plsctl uncertainty` found; without it, none."""
    sections = []
    scores = read_scores(path)
    if scores is not None:
        sections += [_score_section(scores), _nucleus_section(scores)]
    errors = read_results(path / "uncertainty_test.json", "uncertainty")
    if errors is not None:
        sections.append(_error_section(errors))
    return sections


def run_verdict(scores: dict[str, Any]) -> str:
    """Whether the run is better than what needs no network; "" of evaluations that do not say."""
    text = scores.get("verdict_text")
    if not text:
        return ""
    if (scores.get("seen") or {}).get("train"):
        told = seen_text(scores["split"], scores["samples"], scores["seen"])
        return verdict(
            f"{text} Cells of the {scores['split']} split, {told}.", "warn", "⚠ Not judged"
        )
    if scores.get("verdict") == "better":
        return verdict(str(text), "good", "The result")
    return verdict(str(text), "warn", f"⚠ Not shown to be of use ({scores.get('verdict')})")


def score_key_figures(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures behind the verdict."""
    figures = [(f"SSIM on {scores['split']}", f"{scores['metrics']['ssim']['mean']:.3f}")]
    baseline = str(scores.get("baseline"))
    if baseline in scores["baselines"]:
        value = scores["baselines"][baseline]["ssim"]["mean"]
        figures.append((f"SSIM of {_NAMES.get(baseline, baseline)}", f"{value:.3f}"))
    found = scores.get("nuclei", {}).get("prediction")
    if isinstance(found, dict):
        figures.append((f"of {found['nuclei']} nuclei lost", str(found["lost"])))
        figures.append(("nuclei invented", str(found["invented"])))
    return figures


def _score_section(scores: dict[str, Any]) -> Section:
    names = list(scores["metrics"])
    rows = [("the network", *(_score(scores["metrics"][name]) for name in names))]
    rows += [
        (_NAMES.get(key, key), *(_score(values[name]) for name in names))
        for key, values in scores["baselines"].items()
    ]
    note = (
        f"Mean over {scores['samples']} cells of the {scores['split']} split{_elsewhere(scores)}, "
        f"{seen_text(scores['split'], scores['samples'], scores.get('seen'))}; below it the 95 % "
        "interval. The other rows need no training at all: a "
        "network is of use where it beats all of them. The best of each column is marked."
    )
    columns = ("prediction", *(_METRICS.get(name, name) for name in names))
    best: list[Best | None] = [None, *("low" if name == "mae" else "high" for name in names)]
    return Section("Scores", note, table(columns, rows, best))


def _elsewhere(scores: dict[str, Any]) -> str:
    return "" if scores.get("own_data", True) else f" of the data set {Path(scores['data']).name}"


def _score(found: dict[str, Any]) -> Score:
    low, high = found["ci95"]
    ends = None if low is None else (float(low), float(high))
    return Score(float(found["mean"]), ends)


def _nucleus_section(scores: dict[str, Any]) -> Section:
    types = scores.get("cell_types", {})
    # Beside the predictions stand counts of the run's own nuclei.
    nuclei = {key: found for key, found in scores["nuclei"].items() if isinstance(found, dict)}
    rows: list[tuple[object, ...]] = [
        (
            _NAMES.get(key, "the network"),
            _optional(found["dice"]),
            _counted(found["lost"], found["lost_share"]),
            _counted(found["invented"], found["invented_share"]),
            _optional((found.get("lobes") or {}).get("same_share")),
            _optional(types.get(key, {}).get("agreement")),
        )
        for key, found in nuclei.items()
    ]
    columns = ["", "Dice", "lost", "invented", "lobes as stained", "type as stained"]
    best: list[Best | None] = [None, "high", None, None, "high", "high"]
    if not types:
        rows, columns, best = [line[:-1] for line in rows], columns[:-1], best[:-1]
    note = (
        f"Beside the {nuclei['prediction']['nuclei']} whole nuclei of the stained images: how far "
        "their areas agree (Dice, 1 is all), how many are lost or invented, and the share that "
        "has as many lobes. Small: the 95 % interval."
    )
    if types:
        note += " The last column is the share of cells that a classifier reads as the same type."
    left = scores.get("marks_left", {}).get("prediction")
    if left is not None:
        note += (
            f" Of the darkness of rims and rings in the unstained images "
            f"{100 * left['mean']:.0f} % is left."
        )
    return Section("Nuclei and types" if types else "Nuclei", note, table(columns, rows, best))


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
    return Section("Expected errors", note, f'<div class="half">{chart}</div>')


def _optional(score: dict[str, Any] | None) -> Score | str:
    return "–" if score is None else _score(score)


def _counted(count: int, share: dict[str, Any] | None) -> Noted | str:
    if share is None:
        return str(count)
    low, high = (100 * value for value in share["ci95"])
    return Noted(f"{count} ({100 * share['mean']:.0f} %)", f"{low:.0f} to {high:.0f} %")
