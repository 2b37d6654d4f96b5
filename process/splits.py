"""Train, validation and test: whole fields of view on one side each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from plsctl.acquire.errors import UserError

SPLITS = ("train", "validation", "test")


def assign_splits(
    table: pd.DataFrame,
    ratios: Sequence[float] = (8, 1, 1),
    seed: int = 0,
    by: Literal["position", "slide", "patient"] = "position",
    reach_um: float = 18.75,
) -> pd.Series[str]:
    """Train, validation and test (or, with two ratios, train and test) for every sample.

    Whole groups go to one side. By position, positions of a slide whose crops overlap on the
    slide count as one group, so that no piece of the smear is seen on both sides.

    Parameters
    ----------
    table
        Needs `slide`, `position`, `x_um`, `y_um` (slide frame), or `slide`, or `patient`.
    ratios
        Shares of train, validation and test; two shares mean train and test.
    reach_um
        Crops closer than this in both x and y overlap: the side of a crop, 64 px of 0.293 um.

    Raises
    ------
    UserError
        If there are fewer groups than splits, or the columns needed are missing or empty.
    """
    names = {2: ("train", "test"), 3: SPLITS}.get(len(ratios))
    if names is None or min(ratios) <= 0:
        raise UserError(f"split ratios must be two or three positive numbers, got {ratios}.")
    groups = _groups(table, by, reach_um)
    sizes = groups.value_counts()
    if len(sizes) < len(names):
        raise UserError(
            f"{len(sizes)} separate group(s) by {by} cannot fill {len(names)} splits.",
            hint="Scan more positions or with less overlap, or split by something finer.",
        )
    shuffled = np.random.default_rng(seed).permutation(np.array(sorted(sizes.index)))
    # Largest first into the split that lacks most: shares come out close with few groups.
    order = sorted(shuffled, key=lambda group: -int(sizes[group]))
    wanted = np.array(ratios, dtype=float) / sum(ratios) * len(table)
    got = np.zeros(len(names))
    side: dict[object, str] = {}
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        empty = np.flatnonzero(got == 0)
        candidates = empty if len(empty) == left else np.arange(len(names))
        best = candidates[int(np.argmax((wanted - got)[candidates]))]
        side[group] = names[best]
        got[best] += int(sizes[group])
    return groups.map(side).rename("split")


def _groups(table: pd.DataFrame, by: str, reach_um: float) -> pd.Series[str]:
    needed = {"position": ["slide", "position", "x_um", "y_um"]}.get(by, [by])
    for column in needed:
        if column not in table.columns or bool((table[column].astype(str) == "").any()):
            raise UserError(f"cannot split by {by}: the table has samples without {column}.")
    if by != "position":
        return table[by].astype(str)
    names = table["slide"].astype(str) + "/" + table["position"].astype(str)
    codes, _ = pd.factorize(names)
    return pd.Series(_linked(table, codes, reach_um), index=table.index).astype(str)


def _linked(
    table: pd.DataFrame, codes: NDArray[np.integer], reach_um: float
) -> NDArray[np.integer]:
    """Component number per sample: positions joined where their crops overlap on the slide."""
    pairs: list[NDArray[np.integer]] = [np.stack([codes, codes], axis=1)]
    for _, rows in table.groupby("slide", sort=False):
        places = table.index.get_indexer(rows.index)
        tree = cKDTree(rows[["x_um", "y_um"]].to_numpy(dtype=float))
        close = tree.query_pairs(reach_um, p=np.inf, output_type="ndarray")
        pairs.append(codes[places[close]].reshape(-1, 2))
    links = np.concatenate(pairs)
    count = int(codes.max()) + 1
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    numbers: NDArray[np.integer] = np.asarray(components)[codes]
    return numbers
