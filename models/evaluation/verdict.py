"""Whether a run is better than the baselines: one word, and one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plsctl.models.metrics.intervals import LEVEL, Groups, mean_interval
from plsctl.models.metrics.nuclei import NucleusCounts

Decision = Literal["better", "not better", "undecided"]

BASELINES = {
    "unstained": "the unstained image itself",
    "mean_colour": "the mean colour of the training targets",
    "mean_target": "the mean image of the training targets",
}
"""Rows without a network, in the words of people."""

REMEDY = (
    "Train longer (more --steps or --epochs), on more cells or more images of the stack, and look "
    "at the worst samples of the evaluation."
)
"""What to do with a run that is no better."""


@dataclass(frozen=True)
class Verdict:
    """A run beside the best row without a network, by SSIM.

    `difference` is the run's mean SSIM less that row's; `interval` its 95 % interval over samples,
    None where one sample cannot give any.
    """

    decision: Decision
    baseline: str
    difference: float
    interval: tuple[float, float] | None
    samples: int
    nuclei: NucleusCounts

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl evaluate --json` prints."""
        low, high = self.interval or (None, None)
        return {
            "verdict": self.decision,
            "baseline": self.baseline,
            "difference": {"mean": self.difference, "ci95": [low, high]},
            "verdict_text": self.text,
        }

    @property
    def text(self) -> str:
        """One sentence for people."""
        row = BASELINES.get(self.baseline, self.baseline)
        amount = f"{abs(self.difference):.3f} in SSIM ({self._interval_text})"
        if self.decision == "better":
            found = f"The network is better than {row}, by {amount}"
        elif self.decision == "not better":
            found = f"The network is NOT better than {row}: it is worse by {amount}"
        else:
            found = (
                f"Whether the network is better than {row} cannot be decided: the difference is "
                f"{self.difference:+.3f} in SSIM ({self._interval_text})"
            )
        return f"{found}; {self._nuclei_text}."

    @property
    def _interval_text(self) -> str:
        cells = f"{self.samples} cell{'' if self.samples == 1 else 's'}"
        if self.interval is None:
            return f"{cells}, too few for an interval"
        low, high = self.interval
        return f"{100 * LEVEL:.0f} % interval {low:+.3f} to {high:+.3f}, {cells}"

    @property
    def _nuclei_text(self) -> str:
        nuclei = self.nuclei
        if not nuclei.true:
            return "no whole nucleus was there to be compared"
        of = "the one nucleus" if nuclei.true == 1 else f"{nuclei.true} nuclei"
        return f"of {of} it lost {nuclei.lost}, and it invented {nuclei.invented}"


def compare_with_baselines(
    similarity: NDArray[np.float64],
    baselines: Mapping[str, NDArray[np.float64]],
    nuclei: NucleusCounts,
    groups: Groups = (),
) -> Verdict:
    """Compare a run with the baseline of the highest mean SSIM, cell by cell.

    Parameters
    ----------
    similarity
        SSIM of the run's predictions, (n,).
    baselines
        SSIM of the same cells for each row without a network, (n,).
    nuclei
        Counts of the same cells.
    groups
        Their positions and slides, as for `mean_interval`.
    """
    name = max(baselines, key=lambda each: float(baselines[each].mean()))
    differences = similarity - baselines[name]
    interval = mean_interval(differences, groups)
    decision: Decision = "undecided"
    if interval is not None and interval[0] > 0:
        decision = "better"
    elif interval is not None and interval[1] < 0:
        decision = "not better"
    return Verdict(decision, name, float(differences.mean()), interval, len(differences), nuclei)
