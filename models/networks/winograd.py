"""Dense blocks of 3 x 3 convolutions with a quarter of the multiplications, for training on CPUs.

Minimal filtering F(4 x 4, 3 x 3) after Winograd (Lavin & Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016): a tile of 4 x 4 px of a convolution needs 36 products of transformed
weights and a transformed patch of 6 x 6 px, in place of 144. The convolutions of a dense block read
the same features, so each feature map is transformed once for all of them; their gradients are
summed before they are transformed back. Between the transforms there are 36 matrix products.

Images are held by tiles, (B, 16, C, H / 4, W / 4): which of the tile's pixels, then which tile, so
that transforms are matrix products too and patches are copied in long runs. In float32 results
differ from direct convolutions by about 1e-5 of their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

TILE_PX = 4
PATCH_PX = 6
POINTS = PATCH_PX**2
"""Products for a tile, an input and an output channel."""

# Of one dimension, for the interpolation points 0, 1, -1, 2, -2 and infinity.
PATCH_TRANSFORM = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
WEIGHT_TRANSFORM = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
TILE_TRANSFORM = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)

# Rows of a patch, the rows of a tile that they come from, and of which tile: the one before, the
# same, the next. Columns likewise.
BEFORE = (slice(0, 1), slice(3, 4), slice(1, None), slice(None, -1))
SAME = (slice(1, 5), slice(0, 4), slice(None), slice(None))
NEXT = (slice(5, 6), slice(0, 1), slice(None, -1), slice(1, None))


def tiles_of(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 16, C, H / 4, W / 4); both sides must be multiples of 4."""
    batch, channels, height, width = images.shape
    rows, columns = height // TILE_PX, width // TILE_PX
    split = images.reshape(batch, channels, rows, TILE_PX, columns, TILE_PX)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(batch, TILE_PX**2, channels, rows, columns)


def images_of(tiles: Tensor) -> Tensor:
    """(B, 16, C, H / 4, W / 4) -> (B, C, H, W)."""
    batch, _, channels, rows, columns = tiles.shape
    split = tiles.view(batch, TILE_PX, TILE_PX, channels, rows, columns).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(batch, channels, rows * TILE_PX, columns * TILE_PX)


def dense_block(
    tiles: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float, scale: float
) -> Tensor:
    """Growing convolutions that each see all features before them, and a closing one, added.

    Parameters
    ----------
    tiles
        (B, 16, C, rows, columns): features by tiles.
    weights, biases
        Of the 3 x 3 convolutions, padded by zeros; the last one, the closing, has C outputs.
    slope
        Of the leaky rectification after each growing convolution, where its input is negative.
    scale
        Share of the closing convolution that is added to the block's input.
    """
    block: Tensor = _DenseBlock.apply(tiles, slope, scale, *weights, *biases)  # type: ignore[no-untyped-call]
    return block


class _DenseBlock(torch.autograd.Function):
    """The block and its gradients, image by image, so that what is written is soon read again.

    A layer's outputs are rows of one matrix of transformed weights, (36, outputs, inputs): the
    closing one first, then the growing ones from the last to the first. So the rows above a
    layer's own are those of the layers that see its features.
    """

    @staticmethod
    def forward(ctx: Any, tiles: Tensor, slope: float, scale: float, *parameters: Tensor) -> Tensor:
        count = len(parameters) // 2
        weights, biases = parameters[:count], parameters[count:]
        transforms = _Transforms(tiles)
        width, grid = tiles.shape[2], tiles.shape[3:]
        filters, layers = _transformed_weights(weights, transforms)
        patches = tiles.new_empty(len(tiles), POINTS, filters.shape[2], grid.numel())
        grown = tiles.new_empty(len(tiles), TILE_PX**2, filters.shape[2] - width, *grid)
        found = torch.empty_like(tiles)
        for number, image in enumerate(tiles):
            seen = patches[number]
            transforms.patches(image, seen[:, :width])
            for (rows, columns), bias in zip(layers, biases, strict=True):
                product = torch.bmm(filters[:, rows, columns], seen[:, columns])
                outputs = transforms.tiles(product, bias, grid)
                if rows.start == 0:
                    torch.add(image, outputs, alpha=scale, out=found[number])
                    continue
                functional.leaky_relu(outputs, slope, inplace=True)
                own = slice(columns.stop, columns.stop + len(bias))
                grown[number, :, own.start - width : own.stop - width] = outputs
                transforms.patches(outputs, seen[:, own])
        ctx.save_for_backward(filters, patches, grown)
        ctx.slope, ctx.scale, ctx.layers = slope, scale, layers
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        filters, patches, grown = ctx.saved_tensors
        given = gradients[0].contiguous()
        transforms = _Transforms(given)
        width, grid = given.shape[2], given.shape[3:]
        of_tiles = torch.empty_like(given)
        of_filters = torch.zeros_like(filters)
        of_biases = given.new_zeros(filters.shape[1])
        products = given.new_empty(POINTS, filters.shape[1], grid.numel())
        for number, image in enumerate(given):
            for rows, columns in reversed(ctx.layers):
                if rows.start == 0:
                    of_outputs = image * ctx.scale
                else:
                    own = slice(columns.stop, columns.stop + rows.stop - rows.start)
                    seen_by = filters[:, : rows.start, own].transpose(1, 2)
                    of_features = transforms.patch_gradients(
                        torch.bmm(seen_by, products[:, : rows.start]), grid
                    )
                    of_outputs = torch.ops.aten.leaky_relu_backward(
                        of_features,
                        grown[number, :, own.start - width : own.stop - width],
                        ctx.slope,
                        True,
                    )
                of_biases[rows] += of_outputs.sum((0, 2, 3))
                transforms.tile_gradients(of_outputs, products[:, rows])
            seen_by = filters[:, :, :width].transpose(1, 2)
            of_features = transforms.patch_gradients(torch.bmm(seen_by, products), grid)
            torch.add(image, of_features, out=of_tiles[number])
            of_filters.baddbmm_(products, patches[number].transpose(1, 2))
        of_weights = (
            transforms.weight_gradients(of_filters[:, rows, columns])
            for rows, columns in ctx.layers
        )
        return (
            of_tiles, None, None, *of_weights, *(of_biases[rows] for rows, _ in ctx.layers)
        )  # fmt: skip


def _transformed_weights(
    weights: tuple[Tensor, ...], transforms: _Transforms
) -> tuple[Tensor, list[tuple[slice, slice]]]:
    """The matrices (36, outputs, inputs) of all layers, and each one's rows and columns in it."""
    outputs, inputs = sum(len(weight) for weight in weights), weights[-1].shape[1]
    filters = weights[0].new_zeros(POINTS, outputs, inputs)
    layers = []
    end = outputs
    for weight in weights:
        layers.append((slice(end - len(weight), end), slice(0, weight.shape[1])))
        filters[:, layers[-1][0], layers[-1][1]] = transforms.weights(weight)
        end -= len(weight)
    return filters, layers


class _Transforms:
    """The transforms of both dimensions in one, in the number format of a tensor."""

    def __init__(self, like: Tensor) -> None:
        def both(rows: tuple[tuple[float, ...], ...]) -> Tensor:
            matrix = torch.tensor(rows, dtype=torch.float64)
            return torch.kron(matrix, matrix).to(like)

        self._patch = both(PATCH_TRANSFORM)
        self._weight = both(WEIGHT_TRANSFORM)
        self._tile = both(TILE_TRANSFORM)

    def patches(self, tiles: Tensor, out: Tensor) -> None:
        """Write the transformed patches (36, C, tiles) of tiles (16, C, rows, columns)."""
        patches = tiles.new_empty(PATCH_PX, PATCH_PX, *tiles.shape[1:])
        # Around the image there are zeros.
        patches[0, :, :, 0] = patches[5, :, :, -1] = 0
        patches[:, 0, :, :, 0] = patches[:, 5, :, :, -1] = 0
        for place, source in _parts(patches, tiles.view(TILE_PX, TILE_PX, *tiles.shape[1:])):
            place.copy_(source)
        torch.mm(self._patch, patches.view(POINTS, -1), out=out.view(POINTS, -1))

    def patch_gradients(self, products: Tensor, grid: torch.Size) -> Tensor:
        """What `patches` takes its gradient (36, C, tiles) back to: (16, C, rows, columns)."""
        patches = torch.mm(self._patch.T, products.view(POINTS, -1))
        patches = patches.view(PATCH_PX, PATCH_PX, -1, *grid)
        tiles = patches[1:5, 1:5].contiguous()
        for source, place in _parts(patches, tiles):
            if source.shape != tiles.shape:
                place += source
        return tiles.flatten(0, 1)

    def tiles(self, products: Tensor, bias: Tensor, grid: torch.Size) -> Tensor:
        """Tiles (16, C, rows, columns) of the layer whose products (36, C, tiles) these are."""
        tiles = torch.mm(self._tile, products.view(POINTS, -1)).view(TILE_PX**2, -1, *grid)
        return tiles.add_(bias.view(-1, 1, 1))

    def tile_gradients(self, tiles: Tensor, out: Tensor) -> None:
        """Write what `tiles` takes its gradient (16, C, rows, columns) back to: (36, C, tiles)."""
        torch.mm(self._tile.T, tiles.view(TILE_PX**2, -1), out=out.view(POINTS, -1))

    def weights(self, weights: Tensor) -> Tensor:
        """(36, outputs, inputs) of weights (outputs, inputs, 3, 3)."""
        return (self._weight @ weights.reshape(-1, 9).T).view(POINTS, *weights.shape[:2])

    def weight_gradients(self, filters: Tensor) -> Tensor:
        """What `weights` takes its gradient back to."""
        found = filters.reshape(POINTS, -1).T @ self._weight
        return found.view(*filters.shape[1:], 3, 3)


def _parts(patches: Tensor, tiles: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The nine parts of patches (6, 6, C, rows, columns), and where they lie in the tiles."""
    for row, from_row, place_row, at_row in (BEFORE, SAME, NEXT):
        for column, from_column, place_column, at_column in (BEFORE, SAME, NEXT):
            yield (
                patches[row, column, :, place_row, place_column],
                tiles[from_row, from_column, :, at_row, at_column],
            )
