"""Train, validation and test: each field of view is on one side only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted

SPLITS = ("train", "validation", "test")

SplitBy = Literal["position", "slide", "patient"]
SPLIT_BY: tuple[str, ...] = get_args(SplitBy)

LEFT_OUT_OF = "left_out_of"
"""The column with the split of samples that are left out, whose `split` is empty."""

DAMAGED = "damaged"
"""The reason in the column `excluded` of samples whose images cannot be read."""

CROP_UM = 18.75
"""Side of a crop on the slide: 64 px of 0.293 um."""

Numbers = NDArray[np.integer]


@dataclass(frozen=True)
class SplitSettings:
    """How samples are divided; no `ratios` leaves them all in "train".

    `train_share` of the training samples are kept, 0.5 for the half-size data set of papers/002.
    """

    ratios: tuple[int, ...] | None = (8, 1, 1)
    by: SplitBy = "position"
    seed: int = 0
    train_share: float = 1.0

    def as_dict(self) -> dict[str, object]:
        """The settings as JSON gives them back."""
        return asdict(self) | {"ratios": None if self.ratios is None else list(self.ratios)}

    def divide(self, table: pd.DataFrame, reach_um: float = CROP_UM) -> pd.Series[str]:
        """The split of every sample; see `assign_splits` and `thin_training`."""
        if self.ratios is None:
            split = pd.Series("train", index=table.index, name="split")
        else:
            split = assign_splits(table, self.ratios, self.seed, self.by, reach_um)
        return thin_training(table, split, self.train_share, self.seed)


def assign_splits(
    table: pd.DataFrame,
    ratios: Sequence[float] = (8, 1, 1),
    seed: int = 0,
    by: SplitBy = "position",
    reach_um: float = CROP_UM,
) -> pd.Series[str]:
    """Train, validation and test (or, with two ratios, train and test) for every sample.

    Whole groups go to one side, so that every side has its share of the samples and, where cell
    types are known, of each type. Groups of which no sample is used, such as rejected slides, fill
    no share: they go to train.

    By position, positions whose crops overlap on the slide go together. Where fields overlap all
    over a slide that would join all of them; such a patch is cut into blocks of neighbouring
    positions instead, and of two crops that overlap across a border one is left out: the split of
    the training sample (of the validation sample against a test sample) is then "".

    Parameters
    ----------
    table
        Needs `slide`, `position`, `x_um`, `y_um` (slide frame), or `slide`, or `patient`; `type`
        is used where it is given.
    ratios
        Shares of train, validation and test, one of the last two may be 0; two shares mean train
        and test.
    reach_um
        Crops closer than this in both x and y overlap: the side of a crop on the slide.

    Raises
    ------
    UserError
        If there are fewer groups than splits, or the columns needed are missing or empty.
    """
    if not are_ratios(ratios):
        raise UserError(
            f"split ratios must be two or three numbers, the first and another positive, got "
            f"{ratios}."
        )
    _require(table, by)
    every = SPLITS if len(ratios) == 3 else ("train", "test")
    names = [name for name, share in zip(every, ratios, strict=True) if share]
    shares = np.array([share for share in ratios if share], dtype=float) / sum(ratios)
    pairs: Numbers = np.empty((0, 2), dtype=np.int64)
    if by == "position":
        pairs = _overlapping(table, reach_um)
        # Two blocks fill the smallest share: it is met closely, and borders stay short.
        groups = _blocks(table, pairs, most=max(1, int(len(table) * shares.min() / 2)))
    else:
        groups = pd.factorize(table[by].astype(str), sort=True)[0]
    count = int(groups.max(initial=-1)) + 1
    used = ~left_out(table).to_numpy()
    real = np.unique(groups[used] if used.any() else groups)
    if len(real) < len(names):
        raise UserError(
            f"{counted(len(real), 'separate group')} by {by} cannot fill {len(names)} splits.",
            hint="Scan more positions or with less overlap, split by something finer, or do not "
            "split (--split none).",
        )
    sides = np.zeros(count, dtype=np.int64)
    sides[real] = _divide(_count_types(table, groups, count)[real], shares, seed)
    side = sides[groups]
    split = np.array(names, dtype=object)[side]
    across = side[pairs[:, 0]] != side[pairs[:, 1]]
    split[_earlier(pairs[across], side)] = ""
    return pd.Series(split, index=table.index, name="split")


def are_ratios(ratios: Sequence[float]) -> bool:
    """Whether they are two or three shares, of which that of validation or of test may be 0."""
    filled = sum(share > 0 for share in ratios)
    return len(ratios) in (2, 3) and ratios[0] > 0 and min(ratios) >= 0 and filled >= 2


def part_overlaps(table: pd.DataFrame, reach_um: float) -> pd.Series[str]:
    """The column `split`, without crops that overlap one of another split, as `assign_splits` does.

    For data sets that were divided by themselves and hold fields of one slide.
    """
    split = whole_split(table).astype(object)
    side = split.map({name: number for number, name in enumerate(SPLITS)}).fillna(-1).to_numpy(int)
    pairs = _overlapping(table, reach_um)
    one, other = side[pairs[:, 0]], side[pairs[:, 1]]
    across = (one != other) & (one >= 0) & (other >= 0)
    split.iloc[_earlier(pairs[across], side)] = ""
    return split


def left_out(table: pd.DataFrame) -> pd.Series[bool]:
    """Samples that quality control excludes and no review took back, or that a review dropped.

    And those whose images are damaged, which no review takes back.
    """
    keep, excluded = _column(table, "keep"), _column(table, "excluded")
    return (keep == "no") | ((excluded != "") & (keep != "yes")) | is_damaged(table)


def is_damaged(table: pd.DataFrame) -> pd.Series[bool]:
    """Samples whose images were found damaged (`plsctl dataset verify --leave-out`)."""
    found = [DAMAGED in reasons for reasons in excluded_reasons(table)]
    return pd.Series(found, index=table.index, dtype=bool)


def excluded_reasons(table: pd.DataFrame) -> list[list[str]]:
    """Why each sample is excluded; empty where it is not."""
    return [text.split(";") if text else [] for text in _column(table, "excluded")]


def _column(table: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column of text; of merged data sets, some may lack it."""
    return table.get(name, pd.Series("", index=table.index)).fillna("").astype(str)


def with_split(table: pd.DataFrame, split: pd.Series[str] | Sequence[str]) -> pd.DataFrame:
    """The table with a new split of every sample, as far as none is left out; see `settled`."""
    return settled(table.assign(split=np.asarray(split), **{LEFT_OUT_OF: ""}))


def settled(table: pd.DataFrame) -> pd.DataFrame:
    """The table in which `split` is true: empty where a sample is left out.

    `left_out_of` then says which split such a sample belongs to; it comes back to it when a review
    takes it back.
    """
    if "split" not in table.columns:
        return table
    split, aside, out = _column(table, "split"), _column(table, LEFT_OUT_OF), left_out(table)
    goes, comes = out & (split != ""), ~out & (split == "")
    if LEFT_OUT_OF in table.columns and not (goes | (comes & (aside != ""))).any():
        return table.assign(split=split)
    return table.assign(
        split=split.mask(goes, "").mask(comes, aside),
        **{LEFT_OUT_OF: aside.mask(goes, split).mask(~out, "")},
    )


def whole_split(table: pd.DataFrame) -> pd.Series[str]:
    """The split that each sample belongs to, also where it is left out."""
    split = _column(table, "split")
    return split.where(split != "", _column(table, LEFT_OUT_OF))


def count_splits(table: pd.DataFrame) -> dict[str, int]:
    """Samples that each split is used with, those left out, and those in none, in this order.

    The names of splits, `left_out`, and `none` for crops that overlap another split or were not
    kept; what there is none of is not named. All together are the samples of the table.
    """
    if "split" not in table.columns:
        return {}
    out = left_out(table)
    split = _column(table, "split").mask(out, "")
    counts = {name: int((split == name).sum()) for name in SPLITS}
    counts |= {"left_out": int(out.sum()), "none": int(((split == "") & ~out).sum())}
    return {name: count for name, count in counts.items() if count}


def say_splits(counts: Mapping[str, int]) -> str:
    """What `count_splits` found, in words."""
    said = {"left_out": "left out", "none": "in no split"}
    return ", ".join(f"{n} {said.get(name, name)}" for name, n in counts.items()) or "not divided"


def thin_training(
    table: pd.DataFrame, split: pd.Series[str], share: float, seed: int = 0
) -> pd.Series[str]:
    """Keep a share of the training samples, of every slide and cell type alike; "" for the rest.

    Half of them is the half-size data set of papers/002 (section 4.2.4). Validation and test stay
    as they are, so that what is trained on both can be compared.

    Raises
    ------
    UserError
        If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UserError(
            f"a share of {share:g} of the training samples cannot be kept.",
            field="train_share",
            hint="Give one above 0 and at most 1.",
        )
    if share == 1:
        return split
    rng = np.random.default_rng(seed)
    kinds = table["slide"].astype(str) + "/" + _types(table)
    thinned = split.copy()
    rest = 0.0
    for _, rows in kinds[split == "train"].groupby(kinds):
        wanted = len(rows) * share + rest
        keep = min(len(rows), round(wanted))
        rest = wanted - keep  # what rounding takes from small kinds the next ones get
        left_out = rng.permutation(rows.index.to_numpy())[keep:]
        thinned.loc[left_out] = ""
    return thinned


def _require(table: pd.DataFrame, by: str) -> None:
    needed = {"position": ["slide", "position", "x_um", "y_um"]}.get(by, [by])
    for column in needed:
        found = table[column] if column in table.columns else pd.Series("", index=table.index)
        if bool((found.isna() | (found.astype(str) == "")).any()):
            raise UserError(
                f"cannot split by {by}: the table has samples without {column}.",
                hint="Add it with `plsctl dataset label`, or split by something else.",
            )


def _types(table: pd.DataFrame) -> pd.Series[str]:
    if "type" not in table.columns:
        return pd.Series("", index=table.index)
    return table["type"].fillna("").astype(str)


def _count_types(table: pd.DataFrame, groups: Numbers, count: int) -> NDArray[np.float64]:
    """Samples of each type in each group, (group, type)."""
    codes, names = pd.factorize(_types(table), sort=True)
    counts = np.zeros((count, len(names)))
    np.add.at(counts, (groups, codes), 1)
    return counts


def _divide(counts: NDArray[np.float64], shares: NDArray[np.float64], seed: int) -> Numbers:
    """The side of each group: largest first, to the side that lacks most of what it brings."""
    totals = np.maximum(counts.sum(axis=0), 1)  # a type may be in rejected slides only
    wanted = shares[:, None] * totals
    got = np.zeros_like(wanted)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = sorted(shuffled, key=lambda group: -float(counts[group].sum()))
    side = np.zeros(len(counts), dtype=np.int64)
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        lacking = ((wanted - got) * counts[group] / totals**2).sum(axis=1)
        empty = np.flatnonzero(got.sum(axis=1) == 0)
        candidates = empty if len(empty) == left else np.arange(len(shares))
        side[group] = candidates[int(np.argmax(lacking[candidates]))]
        got[side[group]] += counts[group]
    return side


def _earlier(pairs: Numbers, side: Numbers) -> Numbers:
    """Of each pair the sample whose side comes first: training gives way to the others."""
    first = side[pairs[:, 0]] < side[pairs[:, 1]]
    return np.where(first, pairs[:, 0], pairs[:, 1])


def _overlapping(table: pd.DataFrame, reach_um: float) -> Numbers:
    """Pairs of samples, by row, whose crops overlap on the slide; shape (n, 2)."""
    pairs: list[Numbers] = [np.empty((0, 2), dtype=np.int64)]
    for _, rows in table.groupby("slide", sort=False):
        places = table.index.get_indexer(rows.index)
        tree = cKDTree(rows[["x_um", "y_um"]].to_numpy(dtype=float))
        close = tree.query_pairs(reach_um, p=np.inf, output_type="ndarray")
        pairs.append(places[close].reshape(-1, 2))
    return np.concatenate(pairs)


def _blocks(table: pd.DataFrame, pairs: Numbers, most: int) -> Numbers:
    """Group number per sample: overlapping positions together, as far as `most` samples allow."""
    names = table["slide"].astype(str) + "/" + table["position"].astype(str)
    positions = pd.factorize(names)[0]
    count = int(positions.max(initial=-1)) + 1
    links = positions[pairs]
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    components = np.asarray(connected_components(graph, directed=False)[1])[positions]
    places = table[["x_um", "y_um"]].to_numpy(dtype=float)
    groups = np.zeros(len(table), dtype=np.int64)
    number = 0
    codes, _ = pd.factorize(components)  # in the order of the rows
    order = np.argsort(codes, kind="stable")
    for component in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        for rows in _cut(component, positions, places, most):
            groups[rows] = number
            number += 1
    return groups


def _cut(
    rows: Numbers, positions: Numbers, places: NDArray[np.float64], most: int
) -> list[Numbers]:
    """Halve a patch of positions across its longer side until no part has too many samples."""
    found = np.unique(positions[rows])
    if len(rows) <= most or len(found) == 1:
        return [rows]
    middles = np.array([places[rows[positions[rows] == p]].mean(axis=0) for p in found])
    axis = int(np.argmax(np.ptp(middles, axis=0)))
    order = found[np.argsort(middles[:, axis], kind="stable")]
    sizes = np.array([np.count_nonzero(positions[rows] == p) for p in order])
    half = int(np.argmin(np.abs(np.cumsum(sizes)[:-1] - len(rows) / 2))) + 1
    first = np.isin(positions[rows], order[:half])
    return [
        part for side in (rows[first], rows[~first]) for part in _cut(side, positions, places, most)
    ]
