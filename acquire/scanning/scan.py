"""A scan: three passes over one slide, each begun by name, each resumed where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from pathlib import Path

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.calibrations import calibrated, order
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.locations import location, real_path
from plsctl.acquire.files.whole_files import rename, sync_folder
from plsctl.acquire.plans.kept_settings import (
    changed_settings,
    keep_calibrations,
    settings_hash,
    write_settings,
)
from plsctl.acquire.plans.pass_plans import PassPlanner
from plsctl.acquire.plans.slide import Slide, load_slide
from plsctl.acquire.scanning.verdict import verify_pass
from plsctl.acquire.store.folder import ScanFolder, is_begun, load_transform
from plsctl.acquire.store.journal import read_journal
from plsctl.acquire.store.records import PASSES, PassName

Progress = Callable[[str, int, int], None]
"""Progress callback: what is being done, the count done, and the total (0: not counted)."""

_BEGINNINGS = ("pass_started", "pass_resumed", "pass_put_aside")
"""After these a verdict on the pass no longer holds."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""
    return None


class Scan:
    """One slide's scan on disk and the passes it has been through.

    Parameters
    ----------
    slide
        The slide file's content.
    folder
        The scan's folder, made on the first pass.

    Raises
    ------
    UserError
        The folder holds the scan of another slide, or one begun with other settings.
    """

    def __init__(self, slide: Slide, folder: Path) -> None:
        self.slide = slide
        self.folder = ScanFolder(folder)
        self.hardware = self._with_kept_calibrations(slide.load_hardware())
        self._check_objectives()
        self.planner = PassPlanner(slide, self.hardware, self.folder)
        self.hash = settings_hash(slide, self.hardware)
        self._check_limits()
        self._check_folder()

    def _with_kept_calibrations(self, hardware: Hardware) -> Hardware:
        """The hardware with the calibrations that passes were begun with, where some were.

        Passes must fit each other. Objectives that no pass has used yet may be calibrated anew.
        """
        begun = [name for name in PASSES if self.is_begun(name)]
        if not begun or not self.folder.slide_file.is_file():
            return hardware
        known = load_slide(self.folder.slide_file)
        used = {hardware.low_power, *(known.pass_settings(name).objective for name in begun)}
        kept = known.load_hardware().calibrations
        return calibrated(
            hardware,
            sorted(
                [
                    *(each for each in kept if each.objective in used),
                    *(each for each in hardware.calibrations if each.objective not in used),
                ],
                key=order,
            ),
        )

    def _check_objectives(self) -> None:
        known = self.hardware.turret.objectives
        for name, settings in self.slide.passes.items():
            if settings.objective not in known:
                raise UserError(
                    f"objective = '{settings.objective}': {self.hardware.file.name} has no such "
                    "objective.",
                    file=self.slide.file,
                    field=f"passes.{name}.objective",
                    hint=f"It has {', '.join(known)}.",
                )

    def _check_limits(self) -> None:
        stage, region = self.hardware.stage, self.slide.region
        for axis in ("x_um", "y_um"):
            (low, high), (first, last) = getattr(stage, axis), getattr(region, axis)
            if first < low or last > high:
                raise UserError(
                    f"the region spans {axis[0]} = {first:g} to {last:g} µm, but the stage's "
                    f"limits are {low:g} to {high:g} µm.",
                    file=self.slide.file,
                    field=f"region.{axis}",
                    hint=f"Choose a region inside the limits of {self.hardware.file.name}.",
                )

    def _check_folder(self) -> None:
        path = self.folder.path
        if not path.exists():
            return
        if not path.is_dir():
            raise UserError(
                "this is a file, and a scan is a folder.",
                file=path,
                hint="Choose another place with --out.",
            )
        if not self.folder.slide_file.exists():
            if any(path.iterdir()):
                raise UserError(
                    "this folder is not a scan, and it is not empty.",
                    file=path,
                    hint="Choose another one with --out.",
                )
            return
        known = load_slide(self.folder.slide_file)
        if known.slide != self.slide.slide:
            raise UserError(
                f"this folder holds the scan of slide '{known.slide}', not of "
                f"'{self.slide.slide}'.",
                file=path,
                hint="Choose another folder with --out.",
            )
        # Until a pass is begun, files may still be corrected: that is what its checks ask for.
        if not any(self.is_begun(name) for name in PASSES):
            return
        hardware = known.load_hardware()
        if settings_hash(known, hardware) == self.hash:
            return
        changed = changed_settings((known, hardware), (self.slide, self.hardware))
        # Of tables, the order of rows counts too.
        name, old, new = changed[0] if changed else ("the order of rows", "another", "this one")
        more = f" ({len(changed) - 1} more differ)" if changed[1:] else ""
        raise UserError(
            f"the scan of slide '{known.slide}' was begun with other settings: {name} was "
            f"{_shown(old)} and is now {_shown(new)}{more}.",
            file=path,
            field=name,
            hint="Restore it (the files it was begun with lie in that folder), or scan into "
            "another folder with --out.",
        )

    # State -----------------------------------------------------------------------------------

    def is_finished(self, name: PassName) -> bool:
        """Whether a pass has been completed."""
        return self.is_begun(name) and self.folder.open_pass(name).attributes.finished

    def is_begun(self, name: PassName) -> bool:
        """Whether a pass has been started."""
        return is_begun(self.folder.pass_path(name))

    def open_pass_name(self) -> PassName | None:
        """The pass that was started and not completed."""
        return next((n for n in PASSES if self.is_begun(n) and not self.is_finished(n)), None)

    def next_pass_name(self) -> PassName | None:
        """The first pass of the slide file that has not been started."""
        return next((n for n in PASSES if n in self.slide.passes and not self.is_begun(n)), None)

    def safe_to_stain(self) -> bool | None:
        """The verdict on the unstained pass as it is now; None when there is none yet."""
        verdict = None
        for event in read_journal(self.folder.journal):
            if event["event"] == "verdict":
                verdict = event["safe_to_stain"] is True
            elif event.get("pass_name") == "unstained" and event["event"] in _BEGINNINGS:
                verdict = None
        return verdict

    def transform(self) -> SlideTransform | None:
        """Where the returned slide lies, once the stained pass has found it."""
        if not self.folder.transform.exists():
            return None
        return load_transform(self.folder)

    def check_order(self, name: PassName, force: bool) -> None:
        """`UserError` when a pass cannot be taken now."""
        self.slide.pass_settings(name)
        if name == "unstained" and self.is_begun("stained") and not force:
            raise UserError(
                "the slide has been stained; it cannot be scanned unstained again.",
                file=self.folder.path,
                hint="Scan another slide, or use --force if the stained pass was a mistake.",
            )
        if name in ("unstained", "stained") and self.is_begun("highres") and not force:
            raise UserError(
                "there is oil on the slide since the 100x pass; a dry objective must not meet it.",
                file=self.folder.path,
                hint="Clean the slide, then use --force.",
            )
        if name == "stained":
            self._check_unstained(force)
        if name == "highres" and not self.is_finished("stained"):
            raise UserError(
                "the stained pass is not finished; the 100x pass goes to the cells found in it.",
                file=self.folder.path,
                hint="First: plsctl scan SLIDE.yaml --pass stained.",
            )

    def _check_unstained(self, force: bool) -> None:
        if not self.is_finished("unstained"):
            raise UserError(
                "the unstained pass is not finished, and once stained it cannot be repeated.",
                file=self.folder.path,
                hint="First: plsctl scan SLIDE.yaml --pass unstained.",
            )
        safe = self.safe_to_stain()
        if safe is None and not force:
            raise UserError(
                "the unstained pass has not been judged: it was stopped while it was checked.",
                file=self.folder.path,
                hint="Judge it now: plsctl scan SLIDE.yaml --verify.",
            )
        if not safe and not force:
            raise UserError(
                "the unstained pass was judged not safe to stain.",
                file=self.folder.path,
                hint="See the reasons with plsctl scan SLIDE.yaml --verify; take it again with "
                "--pass unstained --fresh, or go on with --force.",
            )

    def prepare_folder(self) -> bool:
        """Write the settings as resolved, so that the folder alone can repeat the scan.

        Returns whether the folder has been made; it may have been there.
        """
        folder = real_path(self.folder.path)
        known = self.folder.slide_file.exists()
        if known and not self._is_own_file():
            with disk_errors(folder):
                keep_calibrations(folder, self.hardware)
        if known and (self._is_own_file() or any(self.is_begun(name) for name in PASSES)):
            return False
        # The folder appears whole: a kill must not leave one that is no scan and not empty.
        staging = folder.with_name(f".{folder.name}.preparing")
        with disk_errors(folder):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            write_settings(staging, self.slide, self.hardware)
            if known:
                for path in staging.iterdir():
                    path.replace(folder / path.name)
                staging.rmdir()
                sync_folder(folder)
                return False
            if folder.exists():
                folder.rmdir()
            rename(staging, folder)
            sync_folder(folder.parent)
        return True

    def forget_folder(self) -> None:
        """Delete the folder of a scan in which no pass has been begun."""
        if not any(self.is_begun(name) for name in PASSES):
            shutil.rmtree(self.folder.path, ignore_errors=True)

    def _is_own_file(self) -> bool:
        """Whether the slide file is the one that stands in the scan's folder."""
        return self.slide.file.resolve() == self.folder.slide_file.resolve()

    def verify(
        self, progress: Progress = silent, without: Container[str] = ()
    ) -> dict[str, list[str]]:
        """Problems found by reading every pass again, but for those left out, by pass.

        Raises
        ------
        UserError
            No pass has been begun, or one is not readable at all.
        """
        begun = [name for name in PASSES if self.is_begun(name)]
        if not begun:
            raise UserError(
                "nothing has been scanned yet.",
                file=self.folder.path,
                hint="Take a pass first: plsctl scan SLIDE.yaml --pass unstained.",
            )
        found: dict[str, list[str]] = {}
        for name in begun:
            if name not in without:
                progress(f"verifying {name}", 0, 0)
                found[name] = verify_pass(self.folder.open_pass(name))
        return found


def _shown(value: object) -> str:
    """A setting's value; rows of tables rounded, and what is not there in words."""
    if value is None:
        return "not there"
    if isinstance(value, list):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)


def open_scan(slide_file: str | Path, out: str | Path = "scans") -> Scan:
    """The scan of a slide file; its folder is `out/SLIDE`, or the slide file's own folder.

    A slide file inside a scan's folder belongs to that scan; the folder may be named for it.
    """
    file = location(slide_file)
    if file.is_dir():
        file = ScanFolder(file).slide_file
    slide = load_slide(file)
    if (file.parent / "scan.jsonl").exists():
        return Scan(slide, location(file.parent))
    return Scan(slide, location(out) / slide.slide)
