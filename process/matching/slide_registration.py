"""Where a slide lies after it was taken out, stained and put back.

First roughly: the edges of one field of the returned slide are sought in a mosaic of the fields
from before, at all shifts within reach and at several angles. Then exactly: fields taken where the
slide should now lie are matched tile by tile, and one rigid motion goes through all tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import FieldPair, FieldView
from plsctl.process.matching.correlation import LEAST_VARIANCE, grey_image, wide_edges
from plsctl.process.matching.overlap import ANGLES_DEG, Overlap, find_overlap
from plsctl.process.matching.similarity import Points, Similarity, fit_similarity
from plsctl.process.matching.tiles import TileSettings, tile_places

_WORKING_UM = 1.0  # edges are correlated as a whole in pixels of about this size
_TILE_UM = 60.0
_TILE_REACH_UM = 5.0
_TILES_THAT_TELL = 6  # so many tiles must agree; fewer may fail by chance
_LEAST_BASE_UM = 40.0  # nearer places say nothing about rotation
_MOST_ROTATION_DEG = 5.0
_MOST_PROPOSALS = 2000
_APART_UM = 12.0  # a second place nearer than this to the best is the same one


@dataclass(frozen=True)
class CoarseRegistrar:
    """Finds shift and rotation of a returned slide from fields taken before and after.

    Parameters
    ----------
    search_um
        Largest shift of a single field that `register` looks for, in micrometres.
    agreement_um
        How far a tile may lie from the rigid motion that the others agree on.
    most_second_ratio
        A field whose second-best place comes nearer than this to the best is not used.
    """

    search_um: float = 120.0
    agreement_um: float = 3.0
    most_second_ratio: float = 0.75

    def locate(
        self,
        before: Sequence[FieldView],
        after: FieldView,
        reach_um: float,
        pixel_um: float,
        camera_rotation_deg: float,
    ) -> SlideTransform | None:
        """Roughly where the slide lies, from one field; None if it is not found.

        Parameters
        ----------
        before
            Fields of the slide from before, at least those within reach of `after`.
        after
            A field of the returned slide.
        reach_um
            Largest shift along x or y that is looked for.
        pixel_um
            Size of a pixel in the sample, micrometres.
        camera_rotation_deg
            Rotation of the camera against the stage axes.
        """
        frame = _Frame(pixel_um, camera_rotation_deg)
        mosaic, covered, shrink = _mosaic(before, after, reach_um, frame)
        if not covered.any():
            return None
        moving = _small_edges(after.image, shrink)
        found = find_overlap(
            mosaic,
            moving,
            covered,
            reach_px=reach_um / pixel_um / shrink,
            apart_px=_apart_px(pixel_um * shrink),
        )
        if not found.trusted(self.most_second_ratio):
            return None
        guess = frame.transform(found, shrink, after, after)
        tiles = [_tiles(FieldPair(field, after), guess, frame) for field in before]
        places, shifts = _joined(tiles)
        agreed = self._agreed(places, shifts, least=max(3, math.ceil(0.5 * len(places))))
        if agreed is not None or len(places) >= _TILES_THAT_TELL:
            return agreed
        # Too little of the field lies on what was scanned: the rough place has to do.
        x, y = guess.apply_to(after.x_um, after.y_um)
        return SlideTransform(
            after.x_um, after.y_um, x - after.x_um, y - after.y_um, guess.rotation_deg
        )

    def register(
        self,
        pairs: Sequence[FieldPair],
        pixel_um: float,
        camera_rotation_deg: float,
        guess: SlideTransform | None = None,
    ) -> SlideTransform:
        """Shift and rotation from pairs of fields that show the same part of the slide.

        Parameters
        ----------
        pairs
            Bright-field images, (y, x, rgb), before and after.
        pixel_um
            Size of a pixel in the sample, micrometres.
        camera_rotation_deg
            Rotation of the camera against the stage axes.
        guess
            Where the slide is thought to lie; as it lay before by default.

        Returns
        -------
        The motion of the slide about the mean of the places that were found again.

        Raises
        ------
        UserError
            When fewer than half of the pairs can be matched, or they disagree. Pairs that showed
            next to nothing before, bare glass, do not count.
        """
        if not pairs:
            raise UserError("No fields were given to find the slide by.")
        telling = self.match(pairs, pixel_um, camera_rotation_deg, guess)
        found = [tiles for tiles in telling if len(tiles[0])]
        if len(found) < max(1, len(telling) / 2):
            raise UserError(
                f"Only {len(found)} of {len(telling)} fields could be found again on the returned "
                "slide.",
                hint="Check that it is the same slide, put back as it lay, and in focus.",
            )
        places, shifts = _joined(found)
        agreed = self._agreed(places, shifts, least=max(4, math.ceil(0.5 * len(places))))
        if agreed is None:
            raise UserError(
                f"The parts of {len(found)} fields disagree on where the returned slide lies "
                f"(within {self.agreement_um:g} µm).",
                hint="Check that it is the same slide, lying as before, and in focus.",
            )
        return agreed

    def match(
        self,
        pairs: Sequence[FieldPair],
        pixel_um: float,
        camera_rotation_deg: float,
        guess: SlideTransform | None = None,
    ) -> list[tuple[Points, Points]]:
        """Tiles of each pair: places on the slide and how far each moved, (n, 2) in micrometres.

        Parameters as those of `register`. A pair that does not match has no tiles; one that showed
        next to nothing before, bare glass, is left out.
        """
        frame = _Frame(pixel_um, camera_rotation_deg)
        return [self._match(pair, guess, frame) for pair in _telling(pairs)]

    def _match(
        self, pair: FieldPair, guess: SlideTransform | None, frame: _Frame
    ) -> tuple[Points, Points]:
        """Places on the slide and how far each moved, both (n, 2) in micrometres."""
        rotation = 0.0 if guess is None else guess.rotation_deg
        angles = ANGLES_DEG if guess is None else (rotation - 0.4, rotation, rotation + 0.4)
        shrink = max(1.0, _WORKING_UM / frame.pixel_um)
        reference = _small_edges(pair.reference.image, shrink)
        moving = _small_edges(pair.moving.image, shrink)
        found = find_overlap(
            reference,
            moving,
            angles_deg=angles,
            reach_px=self.search_um / frame.pixel_um / shrink,
            apart_px=_apart_px(frame.pixel_um * shrink),
        )
        if not found.trusted(self.most_second_ratio):
            return np.empty((0, 2)), np.empty((0, 2))
        return _tiles(pair, frame.transform(found, shrink, pair.reference, pair.moving), frame)

    def _agreed(self, places: Points, shifts: Points, least: int) -> SlideTransform | None:
        """The rigid motion that at least so many places follow."""
        if len(places) < least:
            return None
        motion, kept = _fit_rigid(places, places + shifts, self.agreement_um)
        if motion is None or kept.sum() < least:
            return None
        x, y = (float(value) for value in places[kept].mean(axis=0))
        moved_x, moved_y = motion.apply_to(x, y)
        return SlideTransform(x, y, moved_x - x, moved_y - y, motion.rotation_deg)


@dataclass(frozen=True)
class _Frame:
    """From pixels of an image, against its middle, to micrometres of the stage, and back."""

    pixel_um: float
    camera_rotation_deg: float

    def to_stage(self, field: FieldView) -> Similarity:
        """Pixels of a field to stage micrometres."""
        height, width = field.image.shape[:2]
        return Similarity.about(
            ((width - 1) / 2, (height - 1) / 2),
            (field.x_um, field.y_um),
            self.camera_rotation_deg,
            self.pixel_um,
        )

    def transform(
        self, found: Overlap, shrink: float, reference: FieldView, moving: FieldView
    ) -> Similarity:
        """Slide to stage, from where the middle of `moving` lies against that of `reference`."""
        step = Similarity.about((0, 0), (0, 0), self.camera_rotation_deg, self.pixel_um * shrink)
        dx, dy = step.apply_to(found.dx, found.dy)
        here = (reference.x_um + dx, reference.y_um + dy)
        return Similarity.about(here, (moving.x_um, moving.y_um), found.rotation_deg)


def _telling(pairs: Sequence[FieldPair]) -> list[FieldPair]:
    """The pairs whose field from before shows something against the fullest of them."""
    powers = [float(wide_edges(grey_image(pair.reference.image)).var()) for pair in pairs]
    return [
        pair
        for pair, power in zip(pairs, powers, strict=True)
        if power >= LEAST_VARIANCE * max(powers)
    ]


def _apart_px(working_um: float) -> int:
    return max(3, round(_APART_UM / working_um))


def _small_edges(image: NDArray[np.uint8], shrink: float) -> NDArray[np.float32]:
    edges = wide_edges(grey_image(image))
    size = (round(edges.shape[1] / shrink), round(edges.shape[0] / shrink))
    return np.asarray(cv2.resize(edges, size, interpolation=cv2.INTER_AREA)).astype(np.float32)


def _mosaic(
    before: Sequence[FieldView], after: FieldView, reach_um: float, frame: _Frame
) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Edges of the fields around a place, where there are any, and by how much they are shrunk.

    Its middle is the place of `after`; it reaches as far as a shift within reach can bring it.
    """
    shrink = max(1.0, _WORKING_UM / frame.pixel_um)
    height, width = (side / shrink for side in after.image.shape[:2])
    reach = reach_um / frame.pixel_um / shrink
    shape = (math.ceil(height + 2 * reach), math.ceil(width + 2 * reach))
    mosaic, covered = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    to_pixels = frame.to_stage(after).inverse
    for field in before:
        edges = _small_edges(field.image, shrink)
        own = (field.image.shape[1] - 1) / 2, (field.image.shape[0] - 1) / 2
        x, y = to_pixels.apply_to(*frame.to_stage(field).apply_to(*own))
        x, y = (x - (after.image.shape[1] - 1) / 2), (y - (after.image.shape[0] - 1) / 2)
        left = round((shape[1] - edges.shape[1]) / 2 + x / shrink)
        top = round((shape[0] - edges.shape[0]) / 2 + y / shrink)
        rows = slice(max(0, top), min(shape[0], top + edges.shape[0]))
        columns = slice(max(0, left), min(shape[1], left + edges.shape[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        part = edges[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mosaic[rows, columns] = np.maximum(mosaic[rows, columns], part)
        covered[rows, columns] = True
    return mosaic, covered, shrink


def _tiles(pair: FieldPair, motion: Similarity, frame: _Frame) -> tuple[Points, Points]:
    """Tiles of the reference: slide places and their shifts, (n, 2) in micrometres."""
    to_slide, to_stage = frame.to_stage(pair.reference), frame.to_stage(pair.moving)
    guess = to_slide.then(motion).then(to_stage.inverse)
    settings = TileSettings(
        size_px=min(_TILE_UM / frame.pixel_um, min(pair.reference.image.shape[:2]) / 3),
        reach_px=round(_TILE_REACH_UM / frame.pixel_um),
    )
    here, there = tile_places(
        wide_edges(grey_image(pair.reference.image)),
        grey_image(pair.moving.image),
        guess,
        settings,
        wide_edges,
    )
    places = to_slide.apply(here)
    return places, to_stage.apply(there) - places


def _joined(parts: Sequence[tuple[Points, Points]]) -> tuple[Points, Points]:
    if not parts:
        return np.empty((0, 2)), np.empty((0, 2))
    return np.concatenate([p for p, _ in parts]), np.concatenate([s for _, s in parts])


def _fit_rigid(
    before: Points, after: Points, tolerance: float
) -> tuple[Similarity | None, NDArray[np.bool_]]:
    """Rigid motion that most of the (n, 2) places agree on, and who agrees.

    Every two places far enough apart propose a motion (a sample of them where they are many); the
    proposal with the most followers is refined by least squares over them.
    """
    best = np.zeros(len(before), dtype=np.bool_)
    proposals = [
        [one, other]
        for one, other in combinations(range(len(before)), 2)
        if np.linalg.norm(before[one] - before[other]) >= _LEAST_BASE_UM
    ]
    for pair in proposals[:: math.ceil(len(proposals) / _MOST_PROPOSALS) or 1]:
        motion = fit_similarity(before[pair], after[pair], rigid=True)
        now = _followers(before, after, motion, tolerance)
        if now.sum() > best.sum():
            best = now
    if best.sum() < 2:
        return None, best
    motion = fit_similarity(before[best], after[best], rigid=True)
    for _ in range(3):
        kept = _followers(before, after, motion, tolerance)
        motion = fit_similarity(before[kept], after[kept], rigid=True)
    return motion, _followers(before, after, motion, tolerance)


def _followers(
    before: Points, after: Points, motion: Similarity | None, tolerance: float
) -> NDArray[np.bool_]:
    if motion is None or abs(motion.rotation_deg) > _MOST_ROTATION_DEG:
        return np.zeros(len(before), dtype=np.bool_)
    return np.asarray(np.linalg.norm(motion.apply(before) - after, axis=1) < tolerance)
