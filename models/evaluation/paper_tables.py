"""Comparisons: recipes that a data set holds, or the thesis's tables by name.

papers/002: tables 4.1 (recipes), 4.2 (losses), 4.4 (20x target), 4.5 (depth and data) and A.1
(networks). The models of all but the first read the 44 images of `full-nohe`: their number of
parameters says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest
from plsctl.acquire.plans.recipes import recipe_names, shipped_recipes
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.recipe_images import recipe_name

BASE = "brightfield"
"""The recipe that the others are compared with."""

STACK = "full-nohe"
HALF = 0.5
DEEP = 8


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a model on a recipe, with its own options of the training.

    `starts_from` names the row whose trained weights it begins with, as the adversarial model
    begins with a trained `maepfnet`.
    """

    name: str
    model: str
    recipe: str
    options: dict[str, object] = field(default_factory=dict)
    starts_from: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Rows, the target and split they are measured on, and the row the others are compared with."""

    arms: tuple[Arm, ...]
    target: str | None = None
    split: str = "test"
    base: str | None = None


def recipe_arms(recipes: Sequence[str], model: str) -> tuple[Arm, ...]:
    """One model on several recipes, named or given as files."""
    return tuple(Arm(recipe_name(recipe, recipe), model, recipe) for recipe in recipes)


def _plain(*models: str, start: str | None = None) -> tuple[Arm, ...]:
    return tuple(
        Arm(m, m, STACK, starts_from=start if m == "maepf-rpgan-sn" else None) for m in models
    )


def _deeper_and_smaller() -> tuple[Arm, ...]:
    arms: list[Arm] = []
    for model in ("maepfnet", "maepf-rpgan-sn"):
        changes: dict[str, dict[str, object]] = {
            "": {},
            "-deeper": {"blocks": DEEP},
            "-half": {"train_share": HALF},
        }
        for ending, options in changes.items():
            start = f"maepfnet{ending}" if model == "maepf-rpgan-sn" else None
            arms.append(Arm(f"{model}{ending}", model, STACK, options, start))
    return tuple(arms)


TABLES: dict[str, Comparison] = {
    "4.1": Comparison(recipe_arms(recipe_names(), "maepnet"), "100x", "validation", "brightfield"),
    "4.2": Comparison(
        _plain("maenet", "maepnet", "maepfnet", "maepf-rpgan-sn", start="maepfnet"),
        "100x",
        base="maenet",
    ),
    "4.4": Comparison(
        _plain("maepfnet", "maepf-rpgan-sn", start="maepfnet"), "20x", base="maepfnet"
    ),
    "4.5": Comparison(_deeper_and_smaller(), "100x", base="maepfnet"),
    "A.1": Comparison(_plain("maepfnet", "unet"), "100x", base="unet"),
}


def paper_table(name: str) -> Comparison:
    """The comparison of a table of the thesis.

    Raises
    ------
    UserError
        There is no such table.
    """
    try:
        return TABLES[name]
    except KeyError:
        raise UserError(
            f"there is no table '{name}'.", field="table", hint=suggest(name, TABLES)
        ) from None


def held_recipes(data: Dataset) -> list[str]:
    """The recipes that a data set holds completely: its own, then the largest first."""
    held = set(data.labels)
    shipped = [
        recipe.name
        for recipe in shipped_recipes()
        if {frame.label for frame in recipe.images()} <= held
    ]
    return shipped if data.recipe in recipe_names() else [data.recipe, *shipped]


def chosen_recipes(data: Dataset, asked: str | None) -> list[str]:
    """The recipes (names or files) of a comma-separated list, or all that the data set holds.

    Raises
    ------
    UserError
        If a name is unknown, or there is none to train.
    """
    if asked is None:
        names = held_recipes(data)
    else:
        names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    if not names:
        raise UserError(
            f"the data set {data.path} holds no whole recipe.", hint=f"There are {recipe_names()}."
        )
    for name in names:
        data.channels_for(name)
    return names
