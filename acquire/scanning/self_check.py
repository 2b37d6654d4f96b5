"""A pass watched by a monitor while it is taken: what has drifted goes into journal and verdict.

The monitor sees what is on the disk. A resumed pass shows it all positions once more, and what the
journal holds already is not said twice: so neither a kill nor a resume loses or doubles anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from plsctl.acquire.roles import Drift, DriftReport, PassMonitor
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.journal import Event, Journal, since_begun
from plsctl.acquire.store.records import PassName

PATIENCE_S = 120.0
"""So long the end of a pass waits for what is still looked at."""

NO_DRIFT = DriftReport()


class SelfCheck:
    """One run of a pass, watched; leaves nothing running.

    Parameters
    ----------
    monitor
        None: nothing is watched.
    """

    def __init__(
        self,
        monitor: PassMonitor | None,
        journal: Journal,
        folder: ScanFolder,
        pass_name: PassName,
    ) -> None:
        self._monitor = monitor
        self._journal = journal
        self._folder = folder
        self._pass_name = pass_name
        self._told: set[tuple[str, str]] = set()
        self._is_begun = False

    def __enter__(self) -> SelfCheck:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def begin(self, taken: Sequence[str]) -> None:
        """The pass's plate is there, with the positions that earlier runs have taken."""
        if self._monitor is None:
            return
        earlier = noted_drifts(self._folder.journal, self._pass_name).drifts
        self._told = {(drift.kind, drift.led) for drift in earlier}
        self._monitor.begin(self._folder.path, self._pass_name)
        self._is_begun = True
        for name in taken:
            self._monitor.taken(name)

    def position_finished(self, name: str) -> list[Drift]:
        """A position is on the disk; what has been found since the one before."""
        if self._monitor is None:
            return []
        self._monitor.taken(name)
        return self._note(self._monitor.news())

    def finish(self) -> tuple[DriftReport, list[Drift]]:
        """What the whole pass tells, and what of it has not been said yet."""
        if self._monitor is None or not self._is_begun:
            return noted_drifts(self._folder.journal, self._pass_name), []
        fresh = self._note(self._monitor.news())
        report = self._monitor.finish(PATIENCE_S)
        fresh += self._note(report.drifts)
        self._journal.append(
            "drift_report",
            pass_name=self._pass_name,
            checked=list(report.checked),
            unchecked=list(report.unchecked),
            values=dict(report.values),
            page=Path(report.page).name if report.page else "",
        )
        self._journal.sync()
        return noted_drifts(self._folder.journal, self._pass_name), fresh

    def _note(self, drifts: Sequence[Drift]) -> list[Drift]:
        fresh = []
        for drift in drifts:
            if (drift.kind, drift.led) in self._told:
                continue
            self._told.add((drift.kind, drift.led))
            content = {
                ("drift" if name == "kind" else name): v for name, v in asdict(drift).items()
            }
            self._journal.append("drift", pass_name=self._pass_name, **content)
            fresh.append(drift)
        if fresh:
            self._journal.sync()
        return fresh


def noted_drifts(journal: Path, pass_name: PassName) -> DriftReport:
    """What the journal holds of the drifts of a pass since it was begun."""
    drifts: list[Drift] = []
    last: Event = {}
    for event in since_begun(journal, pass_name):
        if event["event"] == "drift":
            names = ("position", "text", "remedy", "spoils", "led")
            drifts.append(Drift(event["drift"], **{name: event[name] for name in names}))
        elif event["event"] == "drift_report":
            last = event
    page = str(journal.parent / str(last["page"])) if last.get("page") else ""
    return DriftReport(
        drifts=tuple(drifts),
        checked=tuple(last.get("checked", ())),
        unchecked=tuple(last.get("unchecked", ())),
        values=dict(last.get("values", {})),
        page=page,
    )
