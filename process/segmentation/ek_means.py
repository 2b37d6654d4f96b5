"""EK-means: k-means that begins where fuzzy c-means ends (papers/001, section 4.3.2).

K-means depends on the centres it begins with. Here fuzzy c-means, begun at fixed quantiles, finds
them, and Lloyd's iterations follow until no colour changes its cluster: the same image always gives
the same clusters. Colours, not pixels, are clustered: a histogram of 32 levels a channel holds some
hundred different colours, weighted by how many pixels have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError

ColourSpace: TypeAlias = Literal["rgb", "lab"]
Points: TypeAlias = NDArray[np.float64]

_LEVELS = 32
_SHIFT = 3  # 256 / 32 = 2^3
_MOST_ROUNDS = 300


@dataclass(frozen=True)
class Clusters:
    """Clusters of an image's colours, from dark to bright.

    Parameters
    ----------
    labels
        Cluster of each pixel, shape (y, x), uint8.
    centres_rgb
        Mean colour of each cluster, shape (cluster, rgb), 0-255.
    """

    labels: NDArray[np.uint8]
    centres_rgb: NDArray[np.float64]


def fuzzy_c_means(
    points: Points, weights: Points, centres: Points, m: float = 2.0, tolerance: float = 1e-5
) -> Points:
    """Centres of fuzzy c-means.

    Memberships u_ik = 1 / sum_j (|x_k - v_i| / |x_k - v_j|)^(2 / (m - 1)) and centres
    v_i = sum_k w_k u_ik^m x_k / sum_k w_k u_ik^m take turns until no membership changes by more
    than the tolerance.

    Parameters
    ----------
    points, weights
        Points (k, channel) and how often each occurs (k,).
    centres
        To begin with, shape (i, channel).
    m
        Fuzziness, above 1.
    tolerance
        Largest change of a membership at the end; the paper's value is illegible.
    """
    former = np.zeros((len(centres), len(points)))
    for _ in range(_MOST_ROUNDS):
        # A point that coincides with a centre belongs to it alone, up to rounding.
        squared = np.maximum(_squared_distances(points, centres), 1e-12)
        nearness = squared ** (-1 / (m - 1))
        membership = nearness / nearness.sum(axis=0)
        if np.abs(membership - former).max() < tolerance:
            break
        former = membership
        share = weights * membership**m
        centres = share @ points / share.sum(axis=1, keepdims=True)
    return centres


def k_means(points: Points, weights: Points, centres: Points) -> tuple[NDArray[np.intp], Points]:
    """Lloyd's iterations until no point changes its cluster: labels (k,) and centres.

    A cluster that loses all its points keeps its centre.
    """
    labels = np.full(len(points), -1, dtype=np.intp)
    for _ in range(_MOST_ROUNDS):
        found = _squared_distances(points, centres).argmin(axis=0)
        if np.array_equal(found, labels):
            break
        labels = found
        belongs = (labels == np.arange(len(centres))[:, None]) * weights
        mass = belongs.sum(axis=1, keepdims=True)
        centres = np.where(mass > 0, belongs @ points / np.maximum(mass, 1e-12), centres)
    return labels, centres


def _squared_distances(points: Points, centres: Points) -> Points:
    """Shape (centre, point)."""
    cross = centres @ points.T
    squares = np.square(centres).sum(axis=1)[:, None] + np.square(points).sum(axis=1)
    return np.asarray(squares - 2 * cross)


def _start(points: Points, weights: Points, clusters: int) -> Points:
    """Colours at even quantiles of brightness among the different colours."""
    order = np.argsort(points.sum(axis=1), kind="stable")
    # The root of a count: a rare nucleus must not vanish beside the background.
    reached = np.cumsum(np.sqrt(weights[order]))
    wanted = (np.arange(clusters) + 0.5) / clusters * reached[-1]
    return np.asarray(points[order[np.searchsorted(reached, wanted)]])


def ek_means(
    image: NDArray[np.uint8],
    clusters: int = 3,
    space: ColourSpace = "lab",
    balance: float = 1.0,
) -> Clusters:
    """Cluster the colours of an image.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8.
    clusters
        How many, at least 2; an image of fewer colours has a cluster for each of them.
    space
        Where distances are measured: RGB, or CIE L*a*b*, in which they are those the eye sees.
    balance
        Power of a colour's pixel count that is its weight: 1 clusters pixels, as published; with
        0.5 colours of rare objects count for more, 0 counts every colour alike.

    Raises
    ------
    UserError
        Fewer than 2 clusters, or another kind of image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"cannot cluster an image of shape {image.shape} and type {image.dtype}.")
    if clusters < 2:
        raise UserError(f"{clusters} clusters part nothing; ask for at least 2.", field="clusters")
    codes = (image >> _SHIFT).astype(np.int32) @ np.array([_LEVELS**2, _LEVELS, 1], np.int32)
    used, where, counts = np.unique(codes, return_inverse=True, return_counts=True)
    clusters = min(clusters, len(used))
    flat = where.ravel()
    rgb = np.stack(
        [np.bincount(flat, weights=image[..., c].ravel()) / counts for c in range(3)], axis=1
    )
    weights = counts.astype(np.float64) ** balance
    points = rgb if space == "rgb" else _to_lab(rgb)
    centres = fuzzy_c_means(points, weights, _start(points, weights, clusters))
    labels, _ = k_means(points, weights, centres)
    belongs = (labels == np.arange(clusters)[:, None]) * weights
    mass = np.maximum(belongs.sum(axis=1, keepdims=True), 1e-12)
    means = belongs @ rgb / mass
    order = np.argsort(means.sum(axis=1), kind="stable")
    rank = np.empty(clusters, dtype=np.uint8)
    rank[order] = np.arange(clusters, dtype=np.uint8)
    return Clusters(rank[labels][flat].reshape(image.shape[:2]), means[order])


def _to_lab(rgb: Points) -> Points:
    pixels = (rgb / 255).astype(np.float32)[None]
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0], dtype=np.float64)
