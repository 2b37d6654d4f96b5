"""The simulated camera: global shutter, read out while the next image is exposed, triggered or not.

It counts its frames and stamps them with the time, as cameras do; a frame that is lost on the way
to the computer leaves a gap in the count.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice, pymm_property

from plsctl.sim.firmware.board import LedBoard
from plsctl.sim.world.world import World

Image = NDArray[np.uint8 | np.uint16]
GetBuffer = Callable[[Sequence[int], DTypeLike], Image]

LOOK_S = 0.0005
"""How often the camera's electronics look whether anything has happened, in real time."""

GIVES_UP_S = 10.0
"""How long the camera's driver waits for an image before it reports an error."""

INTERNAL, EXTERNAL = "Internal", "External"


class SimulatedCamera(CameraDevice):
    """It sees the world; its trigger input and exposure output are wired to the LED array."""

    def __init__(self, world: World, board: LedBoard) -> None:
        super().__init__()
        self._world = world
        self._board = board
        self._exposure_ms = 10.0
        self._exposures_ms: tuple[float, ...] = ()
        self._uses_sequence = False
        self._gain = 1.0
        self._mode = INTERNAL
        self._triggers: deque[float] = deque()
        self._aborted = False
        self._frames = 0
        self._read_out_at = 0.0
        self._last: Image | None = None
        camera = world.hardware.camera
        self.set_property_limits("Exposure", camera.exposure_range_ms)
        self.set_property_limits("Gain", camera.gain_range)
        longest = world.settings.camera.exposure_sequence
        if longest:
            self.set_property_sequence_max_length("Exposure", longest)
        world.on_trigger = self._triggers.append

    # Settings --------------------------------------------------------------------------------

    def get_exposure(self) -> float:
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        self._check_setting("exposure")
        self._exposure_ms = exposure

    def load_exposure_sequence(self, sequence: Sequence[float]) -> None:
        self._exposures_ms = tuple(sequence)

    def start_exposure_sequence(self) -> None:
        self._uses_sequence = True

    def stop_exposure_sequence(self) -> None:
        self._uses_sequence = False

    def get_gain(self) -> float:
        return self._gain

    def set_gain(self, gain: float) -> None:
        self._check_setting("gain")
        self._gain = float(gain)

    @pymm_property(property_type=str, allowed_values=[INTERNAL, EXTERNAL], name="TriggerMode")
    def trigger_mode(self) -> str:
        return self._mode

    @trigger_mode.setter
    def _set_trigger_mode(self, mode: str) -> None:
        self._mode = mode

    @pymm_property(property_type=str, name="SerialNumber", is_read_only=True)
    def serial_number(self) -> str:
        return self._world.settings.camera.serial_number

    def _check_setting(self, name: str) -> None:
        if self._world.faults.now("setting_fails"):
            raise RuntimeError(f"the camera did not take the {name}")

    def shape(self) -> tuple[int, int] | tuple[int, int, int]:
        width, height = self._world.hardware.camera.size_px
        return (height, width) if self._world.hardware.camera.bayer else (height, width, 3)

    def dtype(self) -> DTypeLike:
        return np.uint8 if self._world.hardware.camera.bit_depth == 8 else np.uint16

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """The sensor is always read whole."""

    def clear_roi(self) -> None:
        """The sensor is always read whole."""

    # Images ----------------------------------------------------------------------------------

    def start_sequence(
        self, n: int | None, get_buffer: GetBuffer
    ) -> Iterator[Mapping[str, object]]:
        self._aborted = False
        self._triggers.clear()
        frames = self._triggered(n) if self._mode == EXTERNAL else self._timed(n)
        for image, stamp in self._on_their_way(frames):
            buffer = get_buffer(self.shape(), self.dtype())
            buffer[:] = image
            yield stamp

    def abort(self) -> None:
        """Stop waiting for triggers."""
        self._aborted = True

    def wait_for_readout(self) -> None:
        """Let the time pass until the last image has been read out of the sensor."""
        self._world.clock.sleep(self._read_out_at - self._world.clock.now())

    def _timed(self, n: int | None) -> Iterator[tuple[Image, dict[str, object]]]:
        """Images that the camera's own clock begins."""
        clock = self._world.clock
        for _ in count() if n is None else range(n):
            if self._world.faults.now("camera_timeout"):
                clock.sleep(GIVES_UP_S)
                raise TimeoutError("no image came from the camera")
            if self._world.faults.now("camera_error"):
                raise RuntimeError("the camera was disconnected")
            begun = clock.now()
            image = self._look(self._exposure_ms)
            # An exposure cannot end before the image before it has left the sensor.
            ended = max(begun + self._exposure_ms / 1000, self._read_out_at)
            clock.sleep(ended - clock.now())
            yield image, self._stamped(begun, ended)

    def _triggered(self, n: int | None) -> Iterator[tuple[Image, dict[str, object]]]:
        """Images that pulses at the trigger input begin; the exposure shows at the output."""
        clock, board = self._world.clock, self._board
        for number in count() if n is None else range(n):
            begun = self._wait_for_trigger(number)
            if begun is None:
                return
            image = self._look(self._exposure_of(number))
            # The sensor keeps time whenever this thread gets to run.
            ended = begun + self._exposure_of(number) / 1000
            board.trigger(True)
            clock.sleep(ended - clock.now())
            board.trigger(False)
            stamp = self._stamped(begun, ended)
            if number + 1 == n:
                self.wait_for_readout()
            yield image, stamp

    def _exposure_of(self, number: int) -> float:
        if self._uses_sequence and self._exposures_ms:
            return self._exposures_ms[number % len(self._exposures_ms)]
        return self._exposure_ms

    def _wait_for_trigger(self, number: int) -> float | None:
        """When the next exposure begins; None when none is waited for any more.

        The array's controller lives by this thread while a sequence runs: it needs somebody who
        lets its time pass.
        """
        clock, board, faults = self._world.clock, self._board, self._world.faults
        if faults.now("camera_timeout"):
            while not self._aborted:
                self._idle()
            return None
        if faults.now("extra_trigger"):
            return clock.now()
        while not self._aborted:
            if self._triggers:
                pulsed = self._triggers.popleft()
                ready = self._read_out_at - self._exposure_of(number) / 1000
                # A pulse that comes too early is lost, as at real cameras.
                if pulsed >= ready and not faults.now("missed_trigger"):
                    return pulsed
            event = board.next_event
            if event is None:
                self._idle()
            elif event > clock.now():
                clock.sleep(event - clock.now())
            board.pass_time()
        return None

    def _idle(self) -> None:
        """Nothing will happen: time passes as outside, even with a jumping clock."""
        until = self._world.clock.now() + LOOK_S
        time.sleep(LOOK_S)
        self._world.clock.sleep(until - self._world.clock.now())

    def _look(self, exposure_ms: float) -> Image:
        self._world.happen()
        if self._world.faults.now("dark_frame"):
            lit, self._world.lit = self._world.lit, {}
            image = self._world.image(exposure_ms, self._gain)
            self._world.lit = lit
            return image
        return self._world.image(exposure_ms, self._gain)

    def _stamped(self, begun: float, ended: float) -> dict[str, object]:
        self._frames += 1
        self._read_out_at = ended + self._world.hardware.camera.readout_ms / 1000
        return {"FrameNumber": str(self._frames), "TimeStamp_ms": f"{begun * 1000:.3f}"}

    def _on_their_way(
        self, frames: Iterator[tuple[Image, dict[str, object]]]
    ) -> Iterator[tuple[Image, dict[str, object]]]:
        """Frames as the computer gets them: a driver may lose, double or exchange some."""
        faults = self._world.faults
        for image, stamp in frames:
            if faults.now("dropped_frame"):
                continue
            if faults.now("repeated_frame") and self._last is not None:
                image = self._last
            if faults.now("reordered_frames"):
                yield from islice(frames, 1)
            if faults.now("swapped_frames"):
                following, following_stamp = next(frames, (image, stamp))
                yield following, stamp
                stamp = following_stamp
            self._last = image
            yield image, stamp
