"""Whether the frames of a position show one scene, each under the LED that it is named after.

papers/002 (section 4.2.4) found samples whose single-LED images do not lie on the bright-field
image, and asked for a check. Frames under neighbouring LEDs are so much alike that each can be
predicted from all the others, pixel by pixel; what each one owes to the others, its weights, is a
property of the LED array and is learnt from a few positions of the slide. A frame that was moved
differs from its prediction along its own gradient, which gives the shift; two frames exchanged
are better predicted the other way round. Nothing here asks for a calibrated geometry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.quality.frame_statistics import SLOPES, FrameStatistics, exchange_gain
from plsctl.process.quality.frame_symmetry import ring_medians, shared_correlation, without_defocus

Stacks = NDArray[np.uint8]
Matrix = NDArray[np.float64]

OWN_RIDGE, SHARED_RIDGE = 1e-4, 1e-2
"""Noise added to the diagonal: weights of one slide may be sharp, shared ones must be tolerant."""

OWN_POSITIONS = 3
"""From so many positions on, the slide's own weights are used as they are."""

LEAST_MARGIN, MOST_MARGIN = 1e-3, 1e9

DIM = 0.25
"""A frame with less than this share of the expected light or detail has failed."""
LARGE_EXCHANGE = 0.3
LARGE_MISFIT = 12.0
"""Reference positions beyond either limit are left out."""

CLEARLY_IN_PLACE = -0.2
"""Where all exchanges lose so much under the usual shading, it is reversed and nothing else."""

MOST_EVIDENCE = 8
"""Most samples by which a position's frames are checked: one alone shows most faults."""


@dataclass(frozen=True)
class FrameReference:
    """How the frames of a slide predict each other.

    `scale` (image,) is each image's usual contrast, `precision` (image, image) the inverse of the
    images' correlation (`FrameStatistics` says which they are), `misfit` (frame,) how far a frame
    usually departs from its prediction, as a share of its variance, and `level` (frame,) its mean
    over that of the bright-field image. `margin` (frame, frame) is by how much two frames usually
    fit better in their places than exchanged. `own` tells whether the slide's own weights are
    used, or weights shared by related LEDs. `doubts` holds a sentence for each frame that is wrong
    on the whole slide. `two_sided` tells whether positions lay on both sides of focus.
    """

    frames: tuple[FrameRecord, ...]
    scale: Matrix
    precision: Matrix
    misfit: Matrix
    level: Matrix
    margin: Matrix
    own: bool
    doubts: tuple[str, ...] = ()
    two_sided: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the frames, in their order."""
        return tuple(frame.label for frame in self.frames)

    @property
    def bright(self) -> tuple[bool, ...]:
        """Whether the LEDs of each frame shine into the aperture."""
        return tuple(frame.bright_field for frame in self.frames)


@dataclass(frozen=True)
class FrameAgreement:
    """Agreement of a position's frames with one another; the frame named is the worst.

    `shift_px` is how far a frame lies beside its prediction. `exchange` is about 1 where two frames
    are exchanged and about -1 where each is in its place (see `FrameReference.margin`).
    `misfit` is a frame's departure from its prediction as a multiple of the usual. `light` is the
    largest factor by which a frame is brighter or darker than the others make it.
    """

    shift_px: float
    shift_px_of: str
    exchange: float
    exchange_of: str
    misfit: float
    misfit_of: str
    light: float
    light_of: str


def learn_frames(tiles: Iterable[Stacks], frames: Sequence[FrameRecord]) -> FrameReference | None:
    """Learn the weights from places of some positions.

    Parameters
    ----------
    tiles
        One array (place, image, rgb, y, x), uint8, for each position.
    frames
        The frames of the stacks, bright field first.

    Returns
    -------
    None where the recipe holds the bright-field image alone.

    Raises
    ------
    UserError
        When there is no position.

    Notes
    -----
    LEDs at one angle see the same statistics of cells, turned. The median over such pairs of LEDs
    gives weights that a fault of one frame cannot bend; positions that contradict them are left
    out of the slide's own weights.
    """
    if len(frames) < 2:
        return None
    oblique = _oblique(frames)
    statistics = [FrameStatistics.of(position, oblique) for position in tiles if len(position)]
    if not statistics:
        raise UserError("There is no position to learn the frames of the slide from.")
    oriented = [one.like(statistics[0]) for one in statistics]
    two_sided = sum(one is not own for one, own in zip(oriented, statistics, strict=True))
    statistics = oriented
    shared = _reference(statistics, frames, shared=True)
    good = [one for one in statistics if _is_regular(one, shared)]
    doubts = _doubts(statistics, shared, frames)
    own = len(good) >= OWN_POSITIONS
    reference = _reference(good, frames, shared=False) if own else shared
    return dataclasses.replace(reference, doubts=doubts, two_sided=two_sided > 0)


def _doubts(
    statistics: Sequence[FrameStatistics],
    shared: FrameReference,
    frames: Sequence[FrameRecord],
) -> tuple[str, ...]:
    """Frames that are dim, or exchanged, at every position: LEDs that fail or are miswired."""
    doubts = []
    rings = ring_medians(np.where(shared.bright, shared.level, shared.scale[:-SLOPES]), frames)
    strength = np.where(shared.bright, shared.level, shared.scale[:-SLOPES])
    for label, own, usual in zip(shared.labels, strength, rings, strict=True):
        if own < DIM * usual:
            doubts.append(f"light: frame {label} is dark at all positions")
    covariance = np.mean([one.covariance for one in statistics], axis=0)
    gain = _exchange(covariance, shared)
    first, second = np.unravel_index(int(gain.argmax()), gain.shape)
    if gain[first, second] > LARGE_EXCHANGE:
        pair = f"{shared.labels[int(first)]} and {shared.labels[int(second)]}"
        doubts.append(f"light: frames {pair} look exchanged at all positions")
    return tuple(doubts)


def _is_regular(one: FrameStatistics, reference: FrameReference) -> bool:
    one = _best_lit(one, reference)
    misfits = one.residuals(reference.scale, reference.precision).misfit / reference.misfit
    exchange = float(_exchange(one.covariance, reference).max())
    return exchange < LARGE_EXCHANGE and float(misfits.max()) < LARGE_MISFIT


def _reference(
    statistics: Sequence[FrameStatistics],
    frames: Sequence[FrameRecord],
    *,
    shared: bool,
) -> FrameReference:
    covariance = np.mean([one.covariance for one in statistics], axis=0)
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-6))
    correlation = covariance / np.outer(scale, scale)
    if shared:
        correlation = shared_correlation(correlation, frames)
    ridge = SHARED_RIDGE if shared else OWN_RIDGE
    precision = np.linalg.inv(correlation + ridge * np.eye(len(scale)))
    level = np.median([one.level for one in statistics], axis=0)
    reference = FrameReference(
        frames=tuple(frames),
        scale=scale,
        precision=precision,
        misfit=np.ones(len(frames)),
        level=level / max(float(level[0]), 1e-6),
        margin=np.clip(-_exchange_gain(covariance, scale, precision), LEAST_MARGIN, MOST_MARGIN),
        own=not shared,
    )
    usual = np.median([one.residuals(scale, precision).misfit for one in statistics], axis=0)
    # The share that noise and the ridge explain is the least that can be usual.
    least = 1 / np.diag(precision)[: len(frames)]
    return dataclasses.replace(reference, misfit=np.maximum(usual, least))


def frame_agreement(stacks: Stacks, reference: FrameReference) -> FrameAgreement:
    """Compare the frames of one position with each other.

    Parameters
    ----------
    stacks
        Crops of the position, (sample, image, rgb, y, x), uint8, of which some are looked at;
        together they give one verdict, since a frame is moved or exchanged for the whole position.

    Raises
    ------
    UserError
        When the stacks hold other images than the reference.
    """
    if stacks.ndim != 5 or stacks.shape[1] != len(reference.labels) or not len(stacks):
        raise UserError(
            f"Stacks of shape {stacks.shape} do not hold the {len(reference.labels)} frames "
            "of the reference."
        )
    some = np.linspace(0, len(stacks) - 1, min(MOST_EVIDENCE, len(stacks))).round().astype(int)
    return _agreement(FrameStatistics.of(stacks[some], _oblique(reference.frames)), reference)


def _agreement(one: FrameStatistics, reference: FrameReference) -> FrameAgreement:
    one = _best_lit(one, reference)
    residuals = one.residuals(reference.scale, reference.precision)
    moved = one.shifts_px(reference.scale, reference.precision)
    shifts = np.hypot(*without_defocus(moved, reference.frames).T)
    misfits = residuals.misfit / reference.misfit
    light = _light(one, reference, residuals.gain)
    gain = _exchange_gain(one.covariance, reference.scale, reference.precision)
    exchange = gain / reference.margin
    # Many pairs fit better exchanged once two frames are; the pair itself does most of all.
    first, second = np.unravel_index(int(gain.argmax()), gain.shape)
    labels = reference.labels
    return FrameAgreement(
        shift_px=float(shifts.max()),
        shift_px_of=labels[int(shifts.argmax())],
        exchange=float(exchange.max()),
        exchange_of=f"{labels[int(first)]} {labels[int(second)]}",
        misfit=float(misfits.max()),
        misfit_of=labels[int(misfits.argmax())],
        light=float(light.max()),
        light_of=labels[int(light.argmax())],
    )


def _oblique(frames: Sequence[FrameRecord]) -> NDArray[np.bool_]:
    return np.array([frame.bright_field and frame.direction is not None for frame in frames])


def _best_lit(one: FrameStatistics, reference: FrameReference) -> FrameStatistics:
    """A position as it is, or with its shading reversed, whichever fits its frames in their places.

    On the other side of focus the shading of all frames is reversed; an exchange does not do that.
    """
    if not reference.two_sided:
        return one
    own, turned = (
        float(_exchange(covariance, reference).max())
        for covariance in (one.covariance, one.reversed_covariance())
    )
    strength = one.covariance.diagonal()[-SLOPES:] / reference.scale[-SLOPES:] ** 2
    clearly = CLEARLY_IN_PLACE * min(1.0, float(np.mean(strength)))
    return one.reversed() if turned < min(own, clearly) else one


def _exchange(covariance: Matrix, reference: FrameReference) -> Matrix:
    """The gain of each exchange, (frame, frame), over what it usually loses."""
    gain = _exchange_gain(covariance, reference.scale, reference.precision)
    return np.asarray(gain / reference.margin)


def _exchange_gain(covariance: Matrix, scale: Matrix, precision: Matrix) -> Matrix:
    """How much better each pair of frames would fit if exchanged, (frame, frame)."""
    gain = exchange_gain(covariance / np.outer(scale, scale), precision)
    return gain[:-SLOPES, :-SLOPES]


def _light(one: FrameStatistics, reference: FrameReference, gain: Matrix) -> Matrix:
    """Ratio of each frame's light to its prediction by the others, 1 or more; (image,).

    Below the limit of the aperture the mean tells it; a dark field has no background, and there
    the strength of its detail against the predicted one does.
    """
    level = one.level / max(float(one.level[0]), 1e-6) / np.maximum(reference.level, 1e-6)
    factor = np.where(reference.bright, level, gain)
    factor = np.clip(factor, 1e-2, 1e2)
    return np.asarray(np.maximum(factor, 1 / factor), dtype=np.float64)
