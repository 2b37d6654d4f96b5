"""The forward model: what one LED shows of a thin sample through an objective.

    image(s) = | IFFT{ P(f) FFT{t}(f - s / wavelength) } |^2

The LED's direction cosines s = (sx, sy) move the sample's spectrum by s / wavelength (x to the
right, y down); the pupil P lets |f| <= NA / wavelength pass and carries the defocus. LEDs are
mutually incoherent: their images add.

The sample lives on an object grid (`object_grid`), which has the camera's field in its middle and a
guard band around it where the sample fades into an empty slide. Object grid and camera grid share
one period, so that the camera's image is an exact resampling of the spectrum. s / wavelength is
rounded to a bin of that spectrum: an empty slide then stays exactly empty in dark field. The
rounding turns a direction by at most half a bin, wavelength / (2 period): 0.03 degrees along x and
0.04 degrees along y for a 1920 x 1200 camera at 20x, 0.02 um of parallax at 20 um of defocus.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.optics.buffers import (
    FFT,
    ImageBuffers,
    chunks,
    numpy_forward_fft,
    numpy_inverse_fft,
)
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid
from plsctl.acquire.optics.waves import Direction, Layers, optical_path_um, pupil, transmission


class FieldSpectrum:
    """The spectrum of one field, from which the image under any LED is made.

    Only the part of the spectrum that some direction can bring into the pupil is kept.

    Parameters
    ----------
    transmission
        Complex transmission on the object grid, shape (3, y, x) in the order of the wavelengths;
        its departure from 1 is faded out over the guard band.
    grid
        From `object_grid` for the same imaging.
    imaging
        Objective and camera.
    inverse_fft
        Unnormalised inverse FFT along the last axis of a complex64 array that may be overwritten.
    forward_fft
        The same forward, divided by the length.
    threads
        Images made at a time; the FFTs release the interpreter's lock.

    Raises
    ------
    UserError
        Where the transmission does not lie on the grid or the grid belongs to another imaging.
    """

    def __init__(
        self,
        transmission: NDArray[np.complexfloating],
        grid: ObjectGrid,
        imaging: Imaging,
        *,
        inverse_fft: FFT = numpy_inverse_fft,
        forward_fft: FFT = numpy_forward_fft,
        threads: int = 2,
    ) -> None:
        if transmission.shape != (len(imaging.wavelengths_um), *grid.shape):
            raise UserError(
                f"a transmission of shape {transmission.shape} does not lie on the object grid; "
                f"give {(len(imaging.wavelengths_um), *grid.shape)}"
            )
        ffts = (forward_fft, inverse_fft)
        self._prepare(lambda colour, rows: transmission[colour, rows], grid, imaging, ffts, threads)

    @classmethod
    def from_layers(
        cls,
        layers: Layers,
        grid: ObjectGrid,
        imaging: Imaging,
        *,
        inverse_fft: FFT = numpy_inverse_fft,
        forward_fft: FFT = numpy_forward_fft,
        threads: int = 2,
    ) -> FieldSpectrum:
        """The spectrum of rendered layers in the objective's medium (see `optical_path_um`)."""
        if layers.thickness_um.shape != grid.shape:
            raise UserError(
                f"layers of shape {layers.thickness_um.shape} do not lie on the object grid; "
                f"give {grid.shape}"
            )

        def rows_of(colour: int, rows: slice) -> ComplexArray:
            path = optical_path_um(
                layers.thickness_um[rows], layers.index_excess_um[rows], imaging.refractive_index
            )
            wavelength = imaging.wavelengths_um[colour]
            return transmission(path, layers.absorbance[colour, rows], wavelength)

        field = cls.__new__(cls)
        field._prepare(rows_of, grid, imaging, (forward_fft, inverse_fft), threads)
        return field

    def _prepare(
        self,
        rows_of: Callable[[int, slice], NDArray[np.complexfloating]],
        grid: ObjectGrid,
        imaging: Imaging,
        ffts: tuple[FFT, FFT],
        threads: int,
    ) -> None:
        if grid.pixel_um != imaging.pixel_um:
            raise UserError("the object grid was made for another pixel size")
        self.grid = grid
        self.imaging = imaging
        self._forward_fft, self._inverse_fft = ffts
        self._threads = threads
        self._spare: deque[ImageBuffers] = deque()
        self._pupils: dict[tuple[int, float], ComplexArray] = {}
        self._pupil_lock = Lock()
        self._spectra = self._transform(rows_of)

    def _reach(self, na: float, colour: int) -> tuple[int, int]:
        """Bins (y, x) from the spectrum's centre out to a numerical aperture."""
        y_um, x_um = self.grid.period_um
        frequency = na / self.imaging.wavelengths_um[colour]
        return math.floor(frequency * y_um), math.floor(frequency * x_um)

    def _kept(self, colour: int) -> tuple[int, int]:
        reach = self._reach(self.imaging.na + self.grid.max_illumination_na, colour)
        # One bin more for the rounding of the shift, never beyond the grid's own Nyquist limit.
        return (
            min(reach[0] + 1, (self.grid.shape[0] - 1) // 2),
            min(reach[1] + 1, (self.grid.shape[1] - 1) // 2),
        )

    def _transform(
        self, rows_of: Callable[[int, slice], NDArray[np.complexfloating]]
    ) -> list[ComplexArray]:
        """Kept parts of the spectra, (2 reach_x + 1, 2 reach_y + 1), zero in the middle."""
        height, width = self.grid.shape
        fade_y, fade_x = self.grid.fade(self.imaging.shape)
        reaches = [self._kept(colour) for colour in range(len(self.imaging.wavelengths_um))]
        columns = [np.empty((2 * x + 1, height), dtype=np.complex64) for _, x in reaches]
        spectra = [np.empty((2 * x + 1, 2 * y + 1), dtype=np.complex64) for y, x in reaches]

        def along_x(task: tuple[int, slice]) -> None:
            colour, rows = task
            _, reach = reaches[colour]
            sample = np.asarray(rows_of(colour, rows), dtype=np.complex64) - np.complex64(1)
            sample *= fade_y[rows, None]
            sample *= fade_x
            sample += np.complex64(1)
            sample = self._forward_fft(sample)
            columns[colour][reach:, rows] = sample[:, : reach + 1].T
            columns[colour][:reach, rows] = sample[:, width - reach :].T

        def along_y(task: tuple[int, slice]) -> None:
            colour, part = task
            reach, _ = reaches[colour]
            lines = self._forward_fft(columns[colour][part])
            spectra[colour][part, reach:] = lines[:, : reach + 1]
            spectra[colour][part, :reach] = lines[:, height - reach :]

        # Parts of all colours in one row: three colours alone leave one of two threads idle.
        with ThreadPoolExecutor(self._threads) as pool:
            parts = list(chunks(height, width))
            list(pool.map(along_x, itertools.product(range(len(reaches)), parts)))
            tasks = [(c, p) for c, lines in enumerate(columns) for p in chunks(len(lines), height)]
            list(pool.map(along_y, tasks))
        return spectra

    def image(
        self,
        direction: Direction,
        colour: int,
        z_um: float = 0.0,
        out: FloatArray | None = None,
    ) -> FloatArray:
        """Image under one LED in one colour; an empty slide gives 1 in bright field, 0 in dark.

        Parameters
        ----------
        direction
            Direction cosines (sx, sy), x to the right and y down.
        colour
            Index of the wavelength.
        z_um
            Defocus; positive z turns the pupil's phase forward (see `pupil`).
        out
            Array (height, width) to write to.

        Returns
        -------
        Intensity, float32, shape (height, width).

        Raises
        ------
        UserError
            For a direction steeper than the object grid was made for.
        """
        if out is None:
            out = np.empty(self.imaging.shape, dtype=np.float32)
        band = self._band(direction, colour)
        stop = self._pupil(colour, z_um)
        try:
            workspace = self._spare.pop()
        except IndexError:
            workspace = ImageBuffers(self.imaging, self.grid, self._inverse_fft)
        workspace.intensity(band, stop, out)
        self._spare.append(workspace)
        return out

    def images(
        self,
        directions: Sequence[Direction],
        z_um: float = 0.0,
        out: FloatArray | None = None,
    ) -> FloatArray:
        """Images under many LEDs, one LED each; several are worked on at a time.

        Parameters
        ----------
        directions, z_um
            As for `image`.
        out
            Colour planes (LED, rgb, height, width) to write to; new ones by default.

        Returns
        -------
        Intensity, float32, shape (LED, height, width, rgb): a view, each colour plane contiguous.

        Raises
        ------
        UserError
            As `image`, or where `out` has another shape or dtype.
        """
        colours = len(self.imaging.wavelengths_um)
        shape = (len(directions), colours, *self.imaging.shape)
        planes = np.empty(shape, dtype=np.float32) if out is None else out
        if planes.shape != shape or planes.dtype != np.float32:
            raise UserError(f"images need float32 planes of shape {shape}, not {planes.shape}")
        tasks = list(itertools.product(range(len(directions)), range(colours)))

        def make(task: tuple[int, int]) -> None:
            led, colour = task
            self.image(directions[led], colour, z_um, planes[led, colour])

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(lambda colour: self._pupil(colour, z_um), range(colours)))
            list(pool.map(make, tasks))
        return np.moveaxis(planes, 1, -1)

    def _band(self, direction: Direction, colour: int) -> ComplexArray:
        """The part of the spectrum that the direction brings over the pupil's square, (x, y)."""
        steepest = self.grid.max_illumination_na
        if math.hypot(*direction) > steepest * (1 + 1e-9) + 1e-9:
            raise UserError(
                f"direction {direction} is steeper than the {steepest} the field was prepared for",
                hint="Prepare the object grid for the steepest LED.",
            )
        y_um, x_um = self.grid.period_um
        wavelength = self.imaging.wavelengths_um[colour]
        shift_x = round(direction[0] / wavelength * x_um)
        shift_y = round(direction[1] / wavelength * y_um)
        spectrum = self._spectra[colour]
        reach_y, reach_x = self._reach(self.imaging.na, colour)
        left = spectrum.shape[0] // 2 - shift_x - reach_x
        top = spectrum.shape[1] // 2 - shift_y - reach_y
        return spectrum[left : left + 2 * reach_x + 1, top : top + 2 * reach_y + 1]

    def _pupil(self, colour: int, z_um: float) -> ComplexArray:
        """Pupil on its own square of bins, shape (x, y); kept for one defocus at a time."""
        kept = self._pupils.get((colour, z_um))
        if kept is not None:
            return kept
        reach_y, reach_x = self._reach(self.imaging.na, colour)
        y_um, x_um = self.grid.period_um
        quarter = pupil(
            np.arange(reach_x + 1)[:, None] / x_um,
            np.arange(reach_y + 1) / y_um,
            self.imaging,
            self.imaging.wavelengths_um[colour],
            z_um,
        )
        # Round and without aberrations: one quarter is mirrored into the others.
        half = np.concatenate([quarter[:0:-1], quarter])
        made: ComplexArray = np.concatenate([half[:, :0:-1], half], axis=1)
        with self._pupil_lock:
            if any(z != z_um for _, z in self._pupils):
                self._pupils.clear()
            self._pupils[colour, z_um] = made
        return made
