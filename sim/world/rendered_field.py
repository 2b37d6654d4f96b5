"""The field that the camera sees last, under single LEDs: what was made of it is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from plsctl.acquire.optics.field import FieldSpectrum

RateImage = NDArray[np.float32]

IMAGES_AT_ONCE = 4
"""LED images made in one go: enough to keep two threads busy, few enough to stay small."""


class RenderedField:
    """Noise-free images of one field; another field takes its place.

    Parameters
    ----------
    memory_mb
        For the images.
    """

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._field: tuple[tuple[object, ...], FieldSpectrum] | None = None
        self._images: OrderedDict[tuple[int, float], RateImage] = OrderedDict()

    def spectrum(self, key: tuple[object, ...], make: Callable[[], FieldSpectrum]) -> FieldSpectrum:
        """Of the field that a key tells from others, made where it is not the one of before."""
        if self._field is None or self._field[0] != key:
            self._field = None
            self._images.clear()
            self._field = (key, make())
        return self._field[1]

    def forget(self) -> None:
        """What the slide shows has changed otherwise than keys tell."""
        self._field = None

    def led_images(
        self,
        spectrum: FieldSpectrum,
        leds: Sequence[int],
        direction: Callable[[int], tuple[float, float]],
        defocus_um: float,
    ) -> Iterator[RateImage]:
        """Images (y, x, rgb) of the field under single LEDs; those made lately are remembered."""
        z = round(defocus_um, 3)
        for start in range(0, len(leds), IMAGES_AT_ONCE):
            some = leds[start : start + IMAGES_AT_ONCE]
            missing = [led for led in some if (led, z) not in self._images]
            made = spectrum.images([direction(led) for led in missing], z)
            fresh = dict(zip(missing, made, strict=True))
            for led in some:
                yield fresh[led] if led in fresh else self._images[led, z]
            for led, image in fresh.items():
                self._remember((led, z), image)

    def _remember(self, key: tuple[int, float], image: RateImage) -> None:
        self._images[key] = image
        limit = self._memory_mb * 2**20 // image.nbytes
        while len(self._images) > limit:
            self._images.popitem(last=False)


def fast_inverse_fft(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Unnormalised inverse FFT along the last axis, in place.

    SciPy transforms several rows at a time with vector instructions, NumPy one after the other;
    `plsctl.acquire.optics.field` does without SciPy and takes this as an argument.
    """
    result: NDArray[np.complex64] = scipy.fft.ifft(rows, norm="forward", overwrite_x=True)
    return result


def fast_forward_fft(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """FFT along the last axis divided by its length, in place."""
    result: NDArray[np.complex64] = scipy.fft.fft(rows, norm="forward", overwrite_x=True)
    return result
