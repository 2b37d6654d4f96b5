"""Array types by dtype; the shapes are given where arrays are passed."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""An image of 8 bits, developed: (y, x, rgb), or (y, x) where it is grey."""

Images: TypeAlias = NDArray[np.uint8]
"""Several of them, as a stack or a batch."""

RawImage: TypeAlias = NDArray[np.uint8 | np.uint16]
"""A frame as the camera gives it: (y, x, rgb), or (y, x) of a mosaic or a grey camera."""

FloatArray: TypeAlias = NDArray[np.float32]
ComplexArray: TypeAlias = NDArray[np.complex64]
Mask: TypeAlias = NDArray[np.bool_]
