"""Images of single cells with their types: from a data set, or from a folder for each type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.models.classification.labelled_cells import labelled_cells, learnable_types
from plsctl.models.learned_optics.settings import CROP_PX, OpticsRun
from plsctl.process.dataset.format import is_dataset
from plsctl.process.dataset.reader import Dataset
from plsctl.process.image_files import ENDINGS, read_image

SPLITS = ("train", "validation")

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True)
class LabelledImages:
    """Square images of single cells.

    Parameters
    ----------
    labels
        (n,), int64: the number of each image's type.
    read
        Gives images by number: (n, 3, side, side), uint8.
    """

    labels: NDArray[np.int64]
    read: Read

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class LabelledData:
    """What a run learns from.

    Parameters
    ----------
    side_px
        Of the images, as they are read.
    crop_px
        Of what is cut out of their middle, 1 at least and `side_px` at most.
    drawn
        Whether the validation split was drawn at random from the images of a folder.
    """

    types: tuple[str, ...]
    train: LabelledImages
    validation: LabelledImages
    side_px: int
    crop_px: int
    drawn: bool = False

    @property
    def metadata(self) -> dict[str, object]:
        """For a run's `task.json`."""
        counts = {
            name: np.bincount(images.labels, minlength=len(self.types)).tolist()
            for name, images in zip(SPLITS, (self.train, self.validation), strict=True)
        }
        return {"types": list(self.types), "images": counts, "crop_px": self.crop_px}


def open_images(config: OpticsRun) -> LabelledData:
    """The images of a run's data.

    Raises
    ------
    UserError
        There are none, fewer than two types, or they are smaller than the crop or the blur.
    """
    place = location(config.data)
    found = _of_dataset(config) if is_dataset(place) else _of_folder(place, config)
    least = config.blur_px if config.edge == "wrap" else config.blur_px // 2 + 1
    if found.crop_px < least:
        raise UserError(
            f"images of {found.crop_px} px are too small for a blur of {config.blur_px} px.",
            file=place,
            field="blur_px",
            hint=f"Set blur_px: {_widest(found.crop_px, config.edge)} or less.",
        )
    return found


def _widest(crop_px: int, edge: str) -> int:
    size = crop_px if edge == "wrap" else 2 * crop_px - 1
    return size - 1 + size % 2


def _crop(config: OpticsRun, smallest_px: int, place: Path) -> int:
    wanted = min(CROP_PX, smallest_px) if config.crop_px is None else config.crop_px
    if wanted > smallest_px:
        raise UserError(
            f"the smallest image has {smallest_px} px, and crop_px is {wanted}.",
            file=place,
            field="crop_px",
            hint=f"Set crop_px: {smallest_px} or less.",
        )
    return wanted


def _of_dataset(config: OpticsRun) -> LabelledData:
    data = Dataset.open(config.data)
    numbers = {name: data.split(name, config.target) for name in SPLITS}
    types = learnable_types(data, numbers["train"])
    parts = []
    for name in SPLITS:
        cells = labelled_cells(data, config.target, numbers[name], types)
        parts.append(LabelledImages(cells.labels, cells.images.__getitem__))
    _check_validation(parts[1], data.path)
    crop_px = _crop(config, data.crop_px, data.path)
    return LabelledData(types, parts[0], parts[1], data.crop_px, crop_px)


def _check_validation(images: LabelledImages, place: Path) -> None:
    if not len(images):
        raise UserError(
            "no image of a known type is left for validation.",
            file=place,
            hint="Label or add more: the best epoch is chosen on them.",
        )


def _of_folder(place: Path, config: OpticsRun) -> LabelledData:
    if not place.is_dir():
        raise UserError(
            "there are no such data.",
            file=place,
            field="data",
            hint="Name a data set, or a folder with a folder of images for each type.",
        )
    divided = all((place / name).is_dir() for name in SPLITS)
    files = {name: _files(place / name) for name in SPLITS} if divided else _drawn(place, config)
    types = tuple(sorted(files["train"]))
    strange = next((name for name in files["validation"] if name not in types), None)
    if strange is not None:
        raise UserError(
            f"the type '{strange}' has images for validation and none for training.",
            file=place / SPLITS[1],
            hint="Add some to train, or take it away.",
        )
    if len(types) < 2:
        raise UserError(
            f"{len(types)} folders hold images, and a classifier needs 2 types.",
            file=place,
            field="data",
            hint="Give every type a folder of its own.",
        )
    paths, labels = {}, {}
    for name in SPLITS:
        paths[name] = [path for kind in types for path in files[name].get(kind, ())]
        counts = [len(files[name].get(kind, ())) for kind in types]
        labels[name] = np.repeat(np.arange(len(types)), counts).astype(np.int64)
    first = read_image(paths["train"][0])
    crop_px = _crop(config, min(first.shape[:2]), place)
    turned = math.radians(min(config.rotation_deg, 45.0))
    # So much of the image is needed to fill the corners of a turned crop.
    side_px = math.ceil(crop_px * (math.cos(turned) + math.sin(turned)))
    share = len(paths["train"]) / (len(paths["train"]) + len(paths["validation"]))
    parts = [
        LabelledImages(labels[name], _Files(paths[name], side_px, crop_px, part * config.memory_gb))
        for name, part in zip(SPLITS, (share, 1 - share), strict=True)
    ]
    _check_validation(parts[1], place)
    return LabelledData(types, parts[0], parts[1], side_px, crop_px, drawn=not divided)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Image files by the name of their folder; folders without any are left out."""
    found = {
        kind.name: sorted(path for path in kind.iterdir() if path.suffix.lower() in ENDINGS)
        for kind in sorted(folder.iterdir())
        if kind.is_dir()
    }
    return {name: paths for name, paths in found.items() if paths}


def _drawn(folder: Path, config: OpticsRun) -> dict[str, dict[str, list[Path]]]:
    """Images of each type divided at random."""
    rng = np.random.default_rng(config.seed)
    train, validation = {}, {}
    for kind, paths in _files(folder).items():
        order = [paths[number] for number in rng.permutation(len(paths))]
        count = min(max(1, round(config.validation_share * len(order))), len(order) - 1)
        if count < 1:
            raise UserError(
                f"the type '{kind}' has one image, and 2 are needed: one each for training and "
                "validation.",
                file=folder / kind,
                hint="Add images, or take the folder away.",
            )
        train[kind], validation[kind] = sorted(order[count:]), sorted(order[:count])
    return {"train": train, "validation": validation}


class _Files:
    """Reads image files by number, and keeps them while there is room."""

    def __init__(
        self, paths: Sequence[Path], side_px: int, least_px: int, memory_gb: float
    ) -> None:
        self._paths, self._side, self._least = paths, side_px, least_px
        self._room = int(memory_gb * 1e9) // (3 * side_px**2)
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        if not len(numbers):  # of a process that has no share in a small batch
            return np.empty((0, 3, self._side, self._side), np.uint8)
        return np.stack([self._image(int(number)) for number in numbers])

    def _image(self, number: int) -> NDArray[np.uint8]:
        if number in self._kept:
            return self._kept[number]
        path = self._paths[number]
        image = read_image(path)
        if min(image.shape[:2]) < self._least:
            raise UserError(
                f"this image has {image.shape[1]} x {image.shape[0]} px, less than the crop of "
                f"{self._least} px.",
                file=path,
                hint=f"Set crop_px: {min(image.shape[:2])} or less, or take the image away.",
            )
        image = np.ascontiguousarray(_middle(image, self._side).transpose(2, 0, 1))
        if len(self._kept) < self._room:
            self._kept[number] = image
        return image


def _middle(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The square in the middle of an image (y, x, rgb), mirrored where it is too small."""
    lacking = [max(side_px - length, 0) for length in image.shape[:2]]
    if any(lacking):
        widths = [(lack // 2, lack - lack // 2) for lack in lacking]
        image = np.pad(image, (*widths, (0, 0)), mode="symmetric")
    top, left = ((length - side_px) // 2 for length in image.shape[:2])
    return image[top : top + side_px, left : left + side_px]
