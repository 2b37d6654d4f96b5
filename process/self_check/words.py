"""What has drifted, in sentences, each with its remedy."""

from __future__ import annotations

from plsctl.acquire.leds.pose import ArrayPose
from plsctl.acquire.roles import Drift
from plsctl.process.self_check.array import ArrayState
from plsctl.process.self_check.camera import CameraFit

ANEW = "then scan the slide anew into another folder (--out)"


def camera_turned(position: str, fit: CameraFit, believed: str) -> Drift:
    """A camera that stands otherwise than it is believed to."""
    return Drift(
        "camera rotation",
        position,
        f"the camera is turned by {fit.turn_deg:+.2f} ± {fit.turn_error_deg:.2f} deg against "
        f"{believed}, as {fit.overlaps} overlaps of neighbouring fields show.",
        f"Tighten it and measure it: plsctl calibrate pixel-size, {ANEW}. The images "
        "themselves are right; 100x fields and stained fields lie a little beside their cells.",
    )


def pixel_size_changed(position: str, fit: CameraFit, pixel_um: float, believed: str) -> Drift:
    """Pixels of another size than they are believed to have."""
    return Drift(
        "pixel size",
        position,
        f"a pixel is {pixel_um * (1 + fit.pixel_share):.4f} ± {pixel_um * fit.pixel_error:.4f} µm "
        f"({100 * fit.pixel_share:+.2f} % against {believed}), as {fit.overlaps} overlaps of "
        "neighbouring fields show.",
        f"Check objective and tube lens, measure it: plsctl calibrate pixel-size, {ANEW}.",
    )


def overlaps_scatter(position: str, fit: CameraFit) -> Drift:
    """Neighbours that lie beside where stage and camera put them, each otherwise."""
    return Drift(
        "overlap",
        position,
        f"neighbouring fields lie {fit.overlap_um:.1f} µm (root mean square of {fit.overlaps}) "
        "beside where the stage was sent.",
        "Check that the slide is clamped and that the stage does not lose steps "
        "(stage.backlash_um, stage.tolerance_um).",
    )


def focus_jumped(position: str, off_um: float, error_um: float) -> Drift:
    """A height that the surface of focus did not let expect."""
    return Drift(
        "focus",
        position,
        f"focus lies {off_um:+.1f} µm from where the heights before let expect it (within "
        f"{2 * error_um:.1f} µm).",
        "Check that the slide lies flat and clamped; let the stage warm up. The fields before it "
        "may be out of focus: see what the verdict says of them.",
    )


def led_dimmed(position: str, name: str, left: float, since: str) -> Drift:
    """An LED that gives less light than it did."""
    return Drift(
        "dim",
        position,
        f"LED {name} gives {100 * left:.0f} % of its light {since}, against LEDs at its angle.",
        "Check its contact; if it stays so, plsctl calibrate exposures gives it a longer exposure.",
        led=name,
    )


def array_moved(state: ArrayState, believed: str, is_calibrated: bool) -> Drift:
    """An array that stands elsewhere."""
    return Drift(
        "array",
        state.position,
        f"the LED array stands {pose_in_words(state.change)} from {believed}.",
        f"Put it back, or measure it: plsctl calibrate leds, {ANEW}.",
        spoils=is_calibrated,
    )


def led_dead(state: ArrayState, name: str) -> Drift:
    """An LED that gives no light."""
    return Drift(
        "dead",
        state.position,
        f"LED {name} gives no light.",
        "Check its contact, then take the pass anew: --fresh.",
        spoils=True,
        led=name,
    )


def leds_swapped(state: ArrayState, name: str, like: str, mutual: bool) -> Drift:
    """An LED that shines from another one's place; `mutual`: and that one from its own."""
    what = f"LED {name} shines from the place of {like}"
    if mutual:
        what = f"LEDs {name} and {like} shine from each other's place"
    return Drift(
        "swapped",
        state.position,
        f"{what}, so that images are stored under a wrong name and direction.",
        "Put the plugs right, then take the pass anew: --fresh.",
        spoils=True,
        led=f"{name}, {like}" if mutual else name,
    )


def pose_in_words(change: ArrayPose) -> str:
    """A change of pose: `0.80 mm in x, -0.60 mm in y, ...`."""
    return (
        f"{change.x_mm:+.2f} mm in x, {change.y_mm:+.2f} mm in y, {change.height_mm:+.2f} mm in "
        f"height and {change.rotation_deg:+.2f} deg"
    )
