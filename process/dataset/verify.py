"""Reading every sample of a data set, and leaving out those whose files are damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from plsctl.acquire.errors import DamagedData
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.rewrite import rewrite_table
from plsctl.process.dataset.splits import DAMAGED, excluded_reasons

BATCH = 32


@dataclass(frozen=True)
class Damage:
    """A file of a data set that cannot be read, or parts of it, and the samples it costs."""

    file: str
    problem: str
    samples: tuple[int, ...]

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self) | {"samples": list(self.samples)}


def find_damage(
    data: Dataset, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Damage]:
    """Read all samples of a data set; what could not be read, file by file.

    Parameters
    ----------
    progress
        Called with the number of samples read, and of all.
    """
    found: dict[str, dict[int, str]] = {}
    for start in range(0, len(data), BATCH):
        numbers = range(start, min(start + BATCH, len(data)))
        for name in data.arrays:
            for number, error in _damaged(data, name, numbers).items():
                found.setdefault(str(error.file), {})[number] = error.problem
        progress(numbers.stop, len(data))
    return [
        Damage(file, next(iter(problems.values())), tuple(problems))
        for file, problems in found.items()
    ]


def _damaged(data: Dataset, name: str, numbers: range) -> dict[int, DamagedData]:
    try:
        if name == "input":
            data.read_input(numbers)
        else:
            data.read_target(name.removeprefix("target_"), numbers)
    except DamagedData:
        held = np.ones(len(data), bool) if name == "input" else data.has_target(name[7:])
        return data.damaged_samples(name, [number for number in numbers if held[number]])
    return {}


def leave_out(data: Dataset, damage: Sequence[Damage]) -> Dataset:
    """Note in the table which samples are damaged, so that every command goes on without them.

    Samples that were noted before and can be read again are taken back.
    """
    gone = {number for one in damage for number in one.samples}
    reasons = []
    for number, own in enumerate(excluded_reasons(data.table)):
        others = [reason for reason in own if reason != DAMAGED]
        reasons.append(";".join([*others, DAMAGED] if number in gone else others))
    return rewrite_table(data, data.table.assign(excluded=reasons))
