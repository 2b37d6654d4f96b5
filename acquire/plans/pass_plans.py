"""The plan of each pass: positions, frames and the attributes of all its images."""

from __future__ import annotations

from plsctl.acquire.devices.calibration_kinds import FlatField
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.tables import number, read_table
from plsctl.acquire.plans.crops import CROP_PX, SLACK_UM
from plsctl.acquire.plans.kept_settings import settings_hash
from plsctl.acquire.plans.plan import (
    PassPlan,
    check_camera,
    check_limits,
    check_region,
    frame_records,
)
from plsctl.acquire.plans.positions import Position, cell_positions, grid_positions, keep_taken
from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
from plsctl.acquire.plans.slide import Slide
from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.records import FrameRecord, PassAttributes, PassName


class PassPlanner:
    """Plans the passes over one slide.

    Parameters
    ----------
    slide
        The slide file's content.
    hardware
        The microscope that it names.
    folder
        The scan's folder: later passes go where earlier ones have been.
    """

    def __init__(self, slide: Slide, hardware: Hardware, folder: ScanFolder) -> None:
        self.slide = slide
        self.hardware = hardware
        self.folder = folder

    def plan(self, name: PassName) -> PassPlan:
        """Positions and frames of a pass.

        The stained pass visits the finished positions of the unstained one; the 100x pass the
        cells of `cells.csv`.
        """
        objective = self.slide.pass_settings(name).objective
        frames = self.frames(name)
        return PassPlan(name, objective, self._positions(name), frames)

    def frames(self, name: PassName) -> tuple[FrameRecord, ...]:
        """The frames of a pass; `UserError` when an LED lacks an exposure or an objective lacks."""
        hardware = self.hardware
        hardware.objective(self.slide.pass_settings(name).objective)
        try:
            frames = frame_records(
                self.slide.load_recipe() if name == "unstained" else BRIGHTFIELD,
                self.slide.load_exposures(name),
                hardware.geometry(),
                hardware.objective(hardware.low_power).na,
                hardware.measured_directions,
            )
        except UserError as error:
            if error.file is None:  # of a recipe that comes with the package
                error.file, error.field = str(self.slide.file), "recipe"
            raise
        check_camera(frames, hardware, self.slide.exposures_file(name))
        return frames

    def check_region(self) -> None:
        """`UserError` when the region is smaller than a field or outside the stage's limits."""
        field_um = self.field_um(next(iter(self.slide.passes.values())).objective)
        if not is_begun(self.folder.pass_path("unstained")):
            check_region(self.slide, field_um)
        positions = grid_positions(self.slide.region, field_um)
        check_limits(positions, self.hardware, self.slide)

    def _positions(self, name: PassName) -> tuple[Position, ...]:
        width, height = self.field_um(self.slide.pass_settings(name).objective)
        if name == "unstained" or (
            name == "stained" and not is_begun(self.folder.pass_path("unstained"))
        ):
            check_region(self.slide, (width, height))
            positions = grid_positions(self.slide.region, (width, height))
            check_limits(positions, self.hardware, self.slide)
            return positions
        if name == "stained":
            reader = self.folder.open_pass("unstained")
            return tuple(
                Position(p.row, p.column, p.slide_x_um, p.slide_y_um) for p in reader.positions
            )
        cells = self._cells()
        around_um = CROP_PX * self.hardware.pixel_um(self.hardware.low_power) + SLACK_UM
        window = (max(width - around_um, 0.0), max(height - around_um, 0.0))
        planned = cell_positions(cells, window)
        if not is_begun(self.folder.pass_path(name)):
            return planned
        reader = self.folder.open_pass(name)
        taken = [Position(p.row, p.column, p.slide_x_um, p.slide_y_um) for p in reader.positions]
        return keep_taken(planned, taken, cells, window)

    def _cells(self) -> list[tuple[float, float]]:
        path = self.folder.cells
        if not path.exists():
            raise UserError(
                "the cells for the 100x pass have not been looked for.",
                file=path,
                hint=f"Find them in the stained pass: plsctl find-cells {self.folder.path}.",
            )
        rows = read_table(path, ("x_um", "y_um"))
        return [
            (number(row, "x_um", path, line), number(row, "y_um", path, line)) for line, row in rows
        ]

    def field_um(self, objective: str) -> tuple[float, float]:
        """Width and height of a camera field under an objective, along the stage's axes."""
        pixel = self.hardware.pixel_um(objective)
        width, height = self.hardware.camera.size_px
        orientation = self.hardware.orientation(objective)
        return orientation.upright(width * pixel, height * pixel)

    def attributes(self, plan: PassPlan) -> PassAttributes:
        """Attributes of all images of a pass."""
        camera, objective = self.hardware.camera, self.hardware.objective(plan.objective)
        orientation = self.hardware.orientation(plan.objective)
        return PassAttributes(
            slide=self.slide.slide,
            patient=self.slide.patient,
            stain=self.slide.stain,
            pass_name=plan.pass_name,
            recipe=self.slide.load_recipe().name if plan.pass_name == "unstained" else BRIGHTFIELD,
            objective=plan.objective,
            magnification=objective.magnification,
            na=objective.na,
            pixel_um=self.hardware.pixel_um(plan.objective),
            camera_rotation_deg=orientation.rotation_deg,
            camera_mirrored=orientation.mirrored,
            bayer=camera.bayer,
            bit_depth=camera.bit_depth,
            black_level=camera.black_level,
            full_scale=2**camera.bit_depth - 1,
            frames=plan.frames,
            settings_hash=settings_hash(self.slide, self.hardware),
            flat_field=next(
                (
                    each.surfaces[BRIGHTFIELD]
                    for each in self.hardware.calibrations
                    if isinstance(each, FlatField) and each.objective == plan.objective
                ),
                None,
            ),
        )
