"""Collects the frames of a position: checks them and hands them on while the next are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.frame_checks import FrameInspector, FrameMetadata, measure
from plsctl.acquire.capture.light import level_of, lit_share, reference_index
from plsctl.acquire.capture.series import Wanted
from plsctl.acquire.capture.stack import Boundary, StackTaker, TakenFrame
from plsctl.acquire.interrupt import LOOK_S
from plsctl.acquire.store.records import FrameRecord, PassAttributes

FRAMES_IN_HAND = 6
"""Frames that wait to be checked and written while the next are taken."""

Accept = Callable[[int, RawImage, FrameMetadata], None]
"""Called with every accepted frame: its index, the image and its metadata."""


class FrameCollector:
    """Receives the frames of one position; use it as a context manager.

    Parameters
    ----------
    accept
        Called in the collector's own thread, in the order in which frames come.
    """

    def __init__(
        self,
        frames: Sequence[FrameRecord],
        attributes: PassAttributes,
        inspector: FrameInspector,
        accept: Accept,
    ) -> None:
        self._frames = frames
        self._attributes = attributes
        self._inspector = inspector
        self._accept = accept
        self._thread = ThreadPoolExecutor(1, "frames")
        self._waiting: deque[Future[None]] = deque()
        self._problems: dict[int, str] = {}
        self.metadata: dict[int, FrameMetadata] = {}
        self.closing: float | None = None
        """Level of the reference frame at the end of the stack, where it was taken once more."""
        self.first: RawImage | None = None
        """The first frame of the stack: the bright-field image."""

    def __enter__(self) -> FrameCollector:
        self._inspector.begin()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(
        self, stack: StackTaker, wanted: Sequence[Wanted], take: int, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames for the `take`-th time; return what is wrong, by the frame's index.

        Raises
        ------
        PlsctlError
            Whatever the devices, `boundary` or `accept` raise.
        """
        self._problems, self.closing = {}, None

        def deliver(taken: TakenFrame) -> None:
            while len(self._waiting) >= FRAMES_IN_HAND:
                self._await_oldest(boundary)
            self._waiting.append(self._thread.submit(self._look_at, taken, take))

        missing = stack.take(wanted, deliver, boundary)
        while self._waiting:
            self._await_oldest(boundary)
        problems = self._problems | missing
        # Frames that are wrong by themselves would make the others look wrong beside them.
        return problems or self._inspector.stack_problems(self._frames, self.metadata)

    def _await_oldest(self, boundary: Boundary) -> None:
        """Wait for the frame that came first; a disk that hangs must not hold up a stop."""
        oldest = self._waiting.popleft()
        while not wait([oldest], LOOK_S).done:
            boundary.check()
        oldest.result()

    def _look_at(self, taken: TakenFrame, take: int) -> None:
        index, image = taken.index, taken.image
        frame = self._frames[reference_index(self._frames) if index is None else index]
        share = lit_share(frame, self._attributes.bayer)
        if index is None:
            self.closing = level_of(image, self._attributes.black_level, share)
            return
        metadata = measure(image, self._attributes, take, taken.time_s, taken.camera_number, share)
        problem = self._inspector.problem(index, frame, image, metadata)
        if problem:
            self._problems[index] = problem
            return
        self.metadata[index] = metadata
        self.first = image if index == 0 else self.first
        self._accept(index, image, metadata)
