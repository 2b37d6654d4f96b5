"""Options for dividing samples into train, validation and test."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.shared import completion

if TYPE_CHECKING:
    from plsctl.process.dataset.splits import SplitBy, SplitSettings

SplitOption = Annotated[
    str,
    typer.Option(
        help="Shares of train, validation and test (8:1:1; 9:1:0 without test), of train and test "
        "(9:1), or none."
    ),
]
SplitByOption = Annotated[
    str,
    typer.Option(
        help="What stays on one side: position, slide or patient.",
        autocompletion=completion.values("position", "slide", "patient"),
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the split.", min=0)]


def parse_split(text: str, by: str, seed: int, train_share: float = 1.0) -> "SplitSettings":
    """The settings that `--split`, `--split-by` and `--seed` ask for."""
    from plsctl.process.dataset.splits import SPLIT_BY, SplitSettings, are_ratios

    if by not in SPLIT_BY:
        raise UserError(
            f"samples cannot be split by '{by}'.",
            field="--split-by",
            hint="Choose position, slide or patient.",
        )
    chosen = cast("SplitBy", by)
    if text == "none":
        return SplitSettings(ratios=None, by=chosen, seed=seed, train_share=train_share)
    parts = text.split(":")
    ratios = tuple(int(part) for part in parts if part.isdecimal())
    if len(ratios) != len(parts) or not are_ratios(ratios):
        raise UserError(
            f"'{text}' is not a split.",
            field="--split",
            hint="Give 8:1:1, 9:1 (train and test), 9:1:0 (train and validation) or none.",
        )
    return SplitSettings(ratios, chosen, seed, train_share)
