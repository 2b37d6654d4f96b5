"""Trials of `plsctl match` on real images, and of the returned slide with glass beside the smear.

    PLSCTL_DATA=data python benchmarks/process/match_trials.py [--seeds N] [--slides N] [--quick]

A pair is cut from the images of five public sets: A turned by up to 3 deg, scaled by up to 2 % and
degraded in one of ten ways, B another cut of the same image, so that the place of A in B is known
(140 pairs a seed); or A and B show nothing in common (120 pairs): another image of the same set,
or the other half of one image. A pair is right when the median error over the part that both show
is below 2 px. Pairs with a side below 100 px are counted apart: there, "not trusted" is a right
answer.

A slide is nine small simulated fields, of which the smear leaves a share bare. It comes back turned
and shifted, and `SlideSearch` looks for it; another slide, a mirrored one and one put in upside
down must be refused. About a minute of one core a seed of pairs, and one a slide.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import CameraOrientation, SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.slide import ReturnSettings
from plsctl.acquire.scanning.slide_search import SlideSearch
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PassAttributes
from plsctl.process.image_files import read_image
from plsctl.process.matching.locate import locate_by_edges
from plsctl.process.matching.similarity import Similarity
from plsctl.process.matching.slide_registration import CoarseRegistrar
from plsctl.sim.backend import open_world
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]
Rng = np.random.Generator

SETS = ("bccd", "chula_wbc", "txl_pbc_raabin", "chula_rbc12", "focus_stack_pcb")
PAIRS, APART = 140, 120  # a seed
LONGEST_PX = 1100
RIGHT_PX, SMALL_PX, SHARED = 2.0, 100, 0.3
GLASS_NOISE = 1.5  # grey values


# Pairs of real images ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Two images; where A lies in B and which of its pixels B shows, when it shows any."""

    name: str
    way: str
    a: Image
    b: Image
    motion: Similarity | None = None
    seen: NDArray[np.float64] | None = None
    share: float = 0.0

    @property
    def small(self) -> bool:
        """Whether too little is shown to ask for an answer."""
        return min(*self.a.shape[:2], *self.b.shape[:2]) < SMALL_PX


@dataclass(frozen=True)
class Answer:
    """What `plsctl match` said of a trial."""

    seed: int
    number: int
    name: str
    way: str
    together: bool
    small: bool
    share: float
    trusted: bool
    score: float
    error_px: float
    cpu_s: float

    @property
    def right(self) -> bool:
        """Whether the place is the true one."""
        return self.error_px < RIGHT_PX


def _blurred(image: Image, rng: Rng) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 3)), np.uint8)


def _bent(image: Image, rng: Rng) -> Image:
    return _grey_values(255 * (image / 255.0) ** rng.uniform(0.5, 1.9))


def _noisy(image: Image, rng: Rng) -> Image:
    return _grey_values(image + rng.normal(0, rng.uniform(4, 20), image.shape))


def _compressed(image: Image, rng: Rng) -> Image:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 40))]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))


def _dark(image: Image, rng: Rng) -> Image:
    return _grey_values(image * rng.uniform(0.25, 0.6))


def _grey(image: Image, rng: Rng) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


WAYS: dict[str, tuple[Callable[[Image, Rng], Image], ...]] = {
    "none": (),
    "blur 1-3 px": (_blurred,),
    "gamma .5-1.9": (_bent,),
    "noise 4-20": (_noisy,),
    "JPEG 8-40": (_compressed,),
    "dark .25-.6": (_dark,),
    "grey against colour": (_grey,),
    "inverted": (lambda image, _: np.asarray(255 - image, np.uint8),),
    "blur + gamma + noise": (_blurred, _bent, _noisy),
    "glass in B": (),
}


def _grey_values(values: NDArray[Any]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _read(path: Path) -> Image:
    image = read_image(path)
    longest = max(image.shape[:2])
    if longest > LONGEST_PX:
        step = LONGEST_PX / longest
        image = np.asarray(
            cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_AREA), np.uint8
        )
    return image


def _with_glass(image: Image, rng: Rng) -> tuple[Image, NDArray[np.bool_]]:
    """The image with a patch as bare as its brightest parts, and where the patch lies."""
    brightness = image.sum(axis=2)
    glass = np.median(image[brightness >= np.percentile(brightness, 70)], axis=0)
    height, width = (int(rng.uniform(0.2, 0.6) * side) for side in image.shape[:2])
    top, left = (
        int(rng.integers(0, side - part + 1))
        for side, part in zip(image.shape[:2], (height, width), strict=True)
    )
    bare = np.zeros(image.shape[:2], np.bool_)
    bare[top : top + height, left : left + width] = True
    covered = image.copy()
    covered[bare] = _grey_values(glass + rng.normal(0, GLASS_NOISE, (int(bare.sum()), 3)))
    return covered, bare


def _together(name: str, way: str, image: Image, rng: Rng) -> Trial:
    """A cut of an image, turned and scaled, and another cut of the same image."""
    height, width = image.shape[:2]
    b_height, b_width = int(rng.uniform(0.5, 1) * height), int(rng.uniform(0.5, 1) * width)
    top, left = (
        int(rng.integers(0, height - b_height + 1)),
        int(rng.integers(0, width - b_width + 1)),
    )
    a_height, a_width = int(rng.uniform(0.25, 0.8) * height), int(rng.uniform(0.25, 0.8) * width)
    middle = ((a_width - 1) / 2, (a_height - 1) / 2)
    there = (
        middle[0] + rng.uniform(0, width - a_width),
        middle[1] + rng.uniform(0, height - a_height),
    )
    turned = rng.uniform(-3, 3) if rng.random() < 0.7 else 0.0
    scale = 1 + (rng.uniform(-0.02, 0.02) if rng.random() < 0.5 else 0.0)
    motion = Similarity.about(middle, there, turned, scale)
    a = cv2.warpAffine(
        image,
        motion.matrix,
        (a_width, a_height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    b = np.ascontiguousarray(image[top : top + b_height, left : left + b_width])
    bare = np.zeros(b.shape[:2], np.bool_)
    if way == "glass in B":
        b, bare = _with_glass(b, rng)
    to_b = motion.then(Similarity(1, complex(-left, -top)))
    grid = np.stack(np.meshgrid(np.arange(0, a_width, 4.0), np.arange(0, a_height, 4.0)), axis=-1)
    points = grid.reshape(-1, 2)
    x, y = np.rint(to_b.apply(points)).astype(int).T
    seen = (x >= 0) & (y >= 0) & (x < b_width) & (y < b_height)
    seen[seen] = ~bare[y[seen], x[seen]]
    share = seen.sum() / min(len(points), b_width * b_height / 16)
    a = _degraded(np.asarray(a, np.uint8), way, rng)
    return Trial(name, way, a, b, to_b, points[seen], float(share))


def _apart(name: str, way: str, image: Image, other: Image | None, rng: Rng) -> Trial:
    """A cut of an image and one that shows something else; the halves of one where none other."""
    height, width = image.shape[:2]
    a_height, a_width = int(rng.uniform(0.25, 0.9) * height), int(rng.uniform(0.25, 0.9) * width)
    if other is None:
        other = np.ascontiguousarray(image[:, width // 2 + 2 :])
        image = image[:, : width // 2 - 2]
        a_width = max(64, min(a_width, image.shape[1]))
    if way == "glass in B":
        other, _ = _with_glass(other, rng)
    a = np.ascontiguousarray(image[:a_height, :a_width])
    return Trial(name, way, _degraded(a, way, rng), other)


def _degraded(image: Image, way: str, rng: Rng) -> Image:
    for step in WAYS[way]:
        image = step(image, rng)
    return image


def trials(files: dict[str, list[Path]], seed: int, share: float = 1.0) -> Iterator[Trial]:
    """The pairs of a seed, or a share of them: those that share a part first."""
    ways = list(WAYS)
    for number in range(PAIRS + APART):
        together = number < PAIRS
        if (number if together else number - PAIRS) >= share * (PAIRS if together else APART):
            continue
        rng = np.random.default_rng((seed, number))
        name, way = str(rng.choice(list(files))), ways[number % len(ways)]
        one, other = (files[name][int(rng.integers(len(files[name])))] for _ in range(2))
        if together:
            yield _together(name, way, _read(one), rng)
            continue
        # All images of the board show the same, and so does one image twice.
        halves = one == other or name == "focus_stack_pcb" or rng.random() < 0.5
        yield _apart(name, way, _read(one), None if halves else _read(other), rng)


def answer(trial: Trial, seed: int, number: int) -> Answer:
    """Ask where A lies."""
    began = time.process_time()
    found = locate_by_edges(trial.a, trial.b)
    took = time.process_time() - began
    error = float("inf")
    if trial.motion is not None and trial.seen is not None and len(trial.seen):
        said = Similarity.about((0, 0), (found.dx, found.dy), found.rotation_deg, found.scale)
        off = said.apply(trial.seen) - trial.motion.apply(trial.seen)
        error = float(np.median(np.hypot(off[:, 0], off[:, 1])))
    return Answer(
        seed, number, trial.name, trial.way, trial.motion is not None, trial.small, trial.share,
        found.trusted, found.score, error, took,
    )  # fmt: skip


# Returned slides ---------------------------------------------------------------------------------

FIELD_PX = (480, 360)
MIDDLE_UM = (11_000.0, 5_600.0)
REACH_UM = 200.0
GLASS = (0.0, 0.2, 0.4, 0.6)
IMPOSTORS = ("foreign", "mirrored", "upside down")


@dataclass(frozen=True)
class _Place:
    name: str
    slide_x_um: float
    slide_y_um: float


class _Before:
    """Nine unstained fields, as far as a search asks for them."""

    path = Path("slide/unstained")

    def __init__(self, world: World) -> None:
        self.step_um = [0.95 * side * world.pixel_um for side in FIELD_PX]
        self.positions = [
            _Place(f"{row}{column}", MIDDLE_UM[0] + column * self.step_um[0],
                   MIDDLE_UM[1] + row * self.step_um[1])
            for row in (-1, 0, 1)
            for column in (-1, 0, 1)
        ]  # fmt: skip
        self.names = [place.name for place in self.positions]
        self._images = {
            place.name: _seen(world, place.slide_x_um, place.slide_y_um) for place in self.positions
        }

    def brightfield(self, name: str) -> Image:
        return self._images[name]

    def size_px(self, name: str) -> tuple[int, int]:
        return FIELD_PX


def _seen(world: World, x_um: float, y_um: float) -> Image:
    """The field at a stage position, in focus."""
    world.look_at(*world.transform.invert(x_um, y_um))
    world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
    return np.asarray(world.expose(0.22, 1.0), dtype=np.uint8)


def _world(seed: int, glass: float) -> World:
    """A smear that leaves the upper share of the nine fields bare."""
    hardware = load_hardware("simulator_small")
    camera = hardware.camera.model_copy(update={"size_px": FIELD_PX})
    height_um = 2.9 * FIELD_PX[1] * 0.293
    smear: dict[str, object] = {"white_cells_per_mm2": 230, "seed": seed}
    if glass:
        smear["smear_y_um"] = [MIDDLE_UM[1] + (glass - 0.5) * height_um, 24_700.0]
    options = {**hardware.options, "smear": smear}
    return open_world(hardware.model_copy(update={"camera": camera, "options": options}))


def _search(before: _Before, look: Callable[[float, float], Image], world: World) -> SlideTransform:
    attributes = cast(PassAttributes, _Camera(world.pixel_um))
    settings = ReturnSettings(fields=5, reach_um=REACH_UM)
    search = SlideSearch(cast(PassReader, before), attributes, CoarseRegistrar(), settings)
    return search.find(look, check=lambda images: None)


@dataclass(frozen=True)
class _Camera:
    pixel_um: float
    camera_rotation_deg: float = 0.7
    camera_mirrored: bool = False

    @property
    def orientation(self) -> CameraOrientation:
        """As of a pass."""
        return CameraOrientation(self.camera_rotation_deg)


def returned_slide(seed: int, glass: float) -> float:
    """Largest error at the nine fields, micrometres; infinite when the slide is not found."""
    rng = np.random.default_rng((seed, round(100 * glass)))
    world = _world(seed, glass)
    before = _Before(world)
    shift = rng.uniform(-150, 150, 2)
    world.stained = True
    world.transform = SlideTransform(
        *MIDDLE_UM, float(shift[0]), float(shift[1]), rng.uniform(-2, 2)
    )
    try:
        found = _search(before, lambda x, y: _seen(world, x, y), world)
    except UserError:
        return float("inf")
    centres = [(place.slide_x_um, place.slide_y_um) for place in before.positions]
    off = [np.subtract(found.apply(*c), world.transform.apply(*c)) for c in centres]
    return float(max(np.hypot(*each) for each in off))


def refused(seed: int, impostor: str) -> bool:
    """Whether a slide that is not the one, or not as it lay, is refused."""
    world = _world(seed, 0.0)
    before = _Before(world)
    other = _world(seed + 1000, 0.0) if impostor == "foreign" else world
    other.stained = True

    def look(x_um: float, y_um: float) -> Image:
        if impostor == "foreign":
            return _seen(other, x_um, y_um)
        if impostor == "mirrored":
            return np.ascontiguousarray(_seen(other, 2 * MIDDLE_UM[0] - x_um, y_um)[:, ::-1])
        turned = _seen(other, 2 * MIDDLE_UM[0] - x_um, 2 * MIDDLE_UM[1] - y_um)
        return np.ascontiguousarray(turned[::-1, ::-1])

    try:
        _search(before, look, world)
    except UserError:
        return True
    return False


# Tables ------------------------------------------------------------------------------------------


def _row(name: str, answers: Sequence[Answer]) -> str:
    def count(right: bool, trusted: bool) -> int:
        return sum(a.right == right and a.trusted == trusted for a in answers)

    errors = [a.error_px for a in answers if a.right and a.trusted]
    exact = f"{np.median(errors):.2f} | {max(errors):.2f}" if errors else "|"
    return (
        f"| {name} | {len(answers)} | {count(True, True)} | {count(True, False)} | "
        f"{count(False, False)} | {count(False, True)} | {exact} |"
    )


def report(answers: Sequence[Answer]) -> None:
    """Print the table of the pairs and what must hold."""
    together = [a for a in answers if a.together]
    large = [a for a in together if not a.small]
    asked = [a for a in large if a.share >= SHARED]
    apart = [a for a in answers if not a.together]
    print(
        "| pairs | n | right, trusted | right, not trusted | wrong, not trusted | wrong, trusted "
        "| median error, px | largest |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(_row("share .3 and more", asked))
    print(_row("share less", [a for a in large if a.share < SHARED]))
    print(_row("a side below 100 px", [a for a in together if a.small]))
    for way in WAYS:
        print(_row(way, [a for a in asked if a.way == way]))
    for name in SETS:
        print(_row(name, [a for a in asked if a.name == name]))
    print(_row("nothing in common", [a for a in apart if not a.small]))
    print(_row("the same, a side below 100 px", [a for a in apart if a.small]))
    found = sum(a.right and a.trusted for a in asked)
    highest = max((abs(a.score) for a in answers), default=0.0)
    print(
        f"Found and trusted: {100 * found / max(1, len(asked)):.1f} % of {len(asked)}; largest "
        f"score {highest:.2f}; {np.mean([a.cpu_s for a in answers]):.2f} CPU seconds a pair."
    )


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="The first seed.")
    parser.add_argument("--out", type=Path, help="Also write every answer, a line of JSON each.")
    parser.add_argument("--quick", action="store_true", help="A tenth of one seed, one slide.")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    data = os.environ.get("PLSCTL_DATA")
    if data is None:
        raise SystemExit("PLSCTL_DATA must name the folder with the image sets.")
    files = {name: sorted(Path(data, name).rglob("*.jpg")) for name in SETS}
    answers: list[Answer] = []
    for seed in range(given.first, given.first + (1 if given.quick else given.seeds)):
        for number, trial in enumerate(trials(files, seed, 0.1 if given.quick else 1.0)):
            answers.append(answer(trial, seed, number))
            if given.out is not None:
                with given.out.open("a") as lines:
                    lines.write(json.dumps(asdict(answers[-1])) + "\n")
    if answers:
        report(answers)
    seeds = range(given.first, given.first + (1 if given.quick else given.slides))
    for glass in GLASS:
        errors = [returned_slide(seed, glass) for seed in seeds]
        found = sum(error < 1.5 for error in errors)
        most = max(errors, default=0.0)
        print(f"Returned, {glass:.0%} glass: found {found} of {len(errors)}, to {most:.2f} um.")
    for impostor in IMPOSTORS:
        count = sum(refused(seed, impostor) for seed in seeds)
        print(f"{impostor}: refused {count} of {len(seeds)}.")


if __name__ == "__main__":
    main()
