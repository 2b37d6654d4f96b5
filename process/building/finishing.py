"""Quality control as a step of a build: before the first position, and when all are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from plsctl.acquire.words import counted
from plsctl.process.building.kept_samples import CutPosition
from plsctl.process.quality.flags import QualitySettings, flag_samples
from plsctl.process.quality.frames import FrameReference
from plsctl.process.quality.slides import SlideVerdict, exclude_rejected, judge_slides


@dataclass(frozen=True)
class Judged:
    """A table with its flags, and the verdict on each of its slides."""

    table: pd.DataFrame
    slides: tuple[SlideVerdict, ...]

    def facts(self, settings: QualitySettings) -> dict[str, object]:
        """What a data set's attributes say of its quality control."""
        return {
            "settings": settings.model_dump(mode="json"),
            "slides": [verdict.facts() for verdict in self.slides],
        }

    def sentences(self, settings: QualitySettings) -> list[str]:
        """What a user should know of rejected slides and excluded samples."""
        fate = "used all the same" if settings.keep_rejected_slides else "left out"
        said = [
            f"Slide {verdict.slide} is rejected, with {counted(verdict.samples, 'sample')} {fate}: "
            f"{'; '.join(verdict.reasons)}."
            for verdict in self.slides
            if not verdict.accepted
        ]
        excluded = int((self.table["excluded"] != "").sum())
        if excluded:
            said.append(
                f"{excluded} of {len(self.table)} samples are left out of all splits; plsctl "
                "review shows them, and takes back what is good."
            )
        return said


def judge(
    table: pd.DataFrame,
    positions: Mapping[str, Sequence[CutPosition]],
    references: Mapping[str, FrameReference | None],
    settings: QualitySettings,
) -> Judged:
    """Flag the samples of a build and judge its slides.

    Parameters
    ----------
    table
        Rows of all samples.
    positions
        What was cut of each slide.
    references
        What was found of each slide's frames.
    """
    dropped = {
        slide: Counter(fate for done in cut for fate in done.fates.values() if fate != "sample")
        for slide, cut in positions.items()
    }
    doubts = {
        slide: found.doubts if found is not None else () for slide, found in references.items()
    }
    flagged = flag_samples(table, settings)
    verdicts = judge_slides(flagged, dropped, doubts, settings)
    return Judged(exclude_rejected(flagged, verdicts, settings), tuple(verdicts))
