"""False finds of `plsctl segment` in small crops that hold no white cell, on the real sets.

    PLSCTL_DATA=FOLDER python benchmarks/process/plain_crops.py [--sides 30,40,60,80,120,160,200]
        [--every N] [--quick]

From each image one square is cut at random, away from every white cell that is drawn in the tables
or found in the whole image, and away from smudges and clumps. It is segmented as the command line
does, without a pixel size. Printed are crops with a find, and crops that cannot be judged.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from segmentation import Box, load_sets

from plsctl.cli.data.segment import _cells_in as cells_in
from plsctl.process.image_files import read_image
from plsctl.process.segmentation.segment import segment

ROOM_PX = 6
"""Between a crop and the nearest white cell."""

TRIES = 60


def occupied(image: NDArray[np.uint8], drawn: list[Box]) -> list[Box]:
    """Boxes of everything in an image that may be a white cell."""
    whole = segment(image)
    doubtful = [other for other in whole.others if other.kind in ("smudge", "clump")]
    boxes = [(c.x, c.y, c.x + c.width, c.y + c.height) for c in (*whole.cells, *doubtful)]
    return [*drawn, *boxes]


def plain_crops(images: dict[Path, list[Box]], side: int) -> Iterator[NDArray[np.uint8]]:
    """One crop of each image where there is room for it, (y, x, rgb)."""
    rng = np.random.default_rng(side)
    for path, drawn in images.items():
        image = read_image(path)
        height, width = image.shape[:2]
        if min(height, width) < side:
            continue
        boxes = occupied(image, drawn)
        for _ in range(TRIES):
            x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
            if not any(
                x < x1 + ROOM_PX and x0 - ROOM_PX < x + side
                and y < y1 + ROOM_PX and y0 - ROOM_PX < y + side
                for x0, y0, x1, y1 in boxes
            ):  # fmt: skip
                yield np.ascontiguousarray(image[y : y + side, x : x + side])
                break


def main() -> None:
    """Print one line per side; fail where a crop of 40 px has a find."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="30,40,60,80,120,160,200")
    parser.add_argument("--every", type=int, default=1, help="take every Nth image")
    parser.add_argument("--quick", action="store_true", help="40 px, every 20th image")
    options = parser.parse_args()
    folder = os.environ.get("PLSCTL_DATA")
    if not folder:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    every = 20 if options.quick else options.every
    sets = {
        name: dict(list(images.items())[::every])
        for name, images in load_sets(Path(folder)).items()
    }
    print(f"| side | {' | '.join(sets)} |")
    print("| --- |" + " --- |" * len(sets))
    found_in_40 = 0
    for side in [40] if options.quick else [int(side) for side in options.sides.split(",")]:
        row = []
        for images in sets.values():
            crops = finds = unjudged = 0
            for crop in plain_crops(images, side):
                result = cells_in(crop, "hsv", None, None, {})[1]
                crops += 1
                finds += bool(result["cells"])
                unjudged += result["cannot_judge"] is not None
            found_in_40 += finds if side == 40 else 0
            row.append(f"{finds} of {crops}, {unjudged} not judged")
        print(f"| {side} | {' | '.join(row)} |", flush=True)
    raise SystemExit(1 if found_in_40 else 0)


if __name__ == "__main__":
    main()
