"""What a monitor finds is written down once, whatever becomes of the pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plsctl.acquire.roles import Drift, DriftReport
from plsctl.acquire.scanning.self_check import SelfCheck, noted_drifts
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.journal import Journal, read_journal

SWAPPED = Drift("swapped", "A/2", "LEDs a and b are swapped.", "Put them right.", True, "a, b")
TURNED = Drift("camera rotation", "A/3", "the camera is turned.", "Measure it.")


class Told:
    """A monitor that finds things at the positions it is told; `begun` counts its runs."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun = self.closed = 0
        self._news: list[Drift] = []

    def begin(self, scan: Path, pass_name: str) -> None:
        self.seen, self._news = [], []
        self.begun += 1

    def taken(self, position: str) -> None:
        self.seen.append(position)
        self._news += [drift for drift in (SWAPPED, TURNED) if drift.position == position]

    def news(self) -> Sequence[Drift]:
        found, self._news = self._news, []
        return found

    def finish(self, patience_s: float) -> DriftReport:
        found = tuple(drift for drift in (SWAPPED, TURNED) if drift.position in self.seen)
        return DriftReport(found, checked=("camera",), values={"overlap_um": 0.3})

    def close(self) -> None:
        self.closed += 1


def test_a_killed_and_resumed_pass_loses_and_doubles_nothing(
    tmp_path: Path, monitored: None
) -> None:
    folder, monitor = ScanFolder(tmp_path), Told()
    journal = Journal(folder.journal)
    journal.append("pass_started", pass_name="unstained")
    with SelfCheck(monitor, journal, folder, "unstained") as check:
        check.begin([])
        assert check.position_finished("A/1") == []
        assert check.position_finished("A/2") == [SWAPPED]
    # Nothing asks for a report: the process has gone.
    journal.append("pass_resumed", pass_name="unstained")
    journal.sync()
    assert noted_drifts(folder.journal, "unstained").drifts == (SWAPPED,)
    with SelfCheck(monitor, journal, folder, "unstained") as check:
        check.begin(["A/1", "A/2"])
        assert check.position_finished("A/3") == [TURNED]
        report, late = check.finish()
    assert late == [] and report.drifts == (SWAPPED, TURNED)
    assert report.checked == ("camera",) and report.values == {"overlap_um": 0.3}
    assert monitor.seen == ["A/1", "A/2", "A/3"] and monitor.closed == 2
    kinds = [event["drift"] for event in read_journal(folder.journal) if event["event"] == "drift"]
    assert kinds == ["swapped", "camera rotation"]
    # A pass that is begun anew has no past.
    journal.append("pass_started", pass_name="unstained")
    journal.close()
    assert noted_drifts(folder.journal, "unstained") == DriftReport()
