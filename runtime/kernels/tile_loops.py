"""The loops of `runtime.kernels.cpu` for masks of as many pixels as logits in blocks of 2, written as `loops` says."""

import numpy as np

TILE = 64  # logits whose classes lie side by side in a tile: 11 KB of it with 11 classes in blocks of 2


def label_tiles(band, start, stop, logits, tiles, words, best, classes, labels):
    """`loops.label_pairs` of bfloat16 logits: a tile at a time, class after class in vector registers.

    Args:
        logits: uint64 (h, w, C), the four bfloat16 logits of a block and a class in each.
        tiles, words: int16 (bands, C, 4 * TILE), and its memory as uint64 (bands, C, TILE).
        best, classes: int16 (bands, 4 * TILE).
    """
    width = logits.shape[1]
    for y in range(start, stop):
        upper, lower = labels[2 * y], labels[2 * y + 1]
        for x in range(0, width, TILE):
            count = min(TILE, width - x)
            for i in range(count):
                blocks = logits[y, x + i]
                for c in range(blocks.size):
                    words[band, c, i] = blocks[c]
            _largest_of_tile(tiles[band], best[band], classes[band])
            _unpair(classes[band], upper[2 * x : 2 * (x + count)], lower[2 * x : 2 * (x + count)])


def _largest_of_tile(tile, best, classes):
    for i in range(best.size):
        best[i], classes[i] = _ordered(tile[0, i]), 0
    for c in range(1, tile.shape[0]):
        row, k = tile[c], np.int16(c)
        for i in range(best.size):
            value = _ordered(row[i])
            classes[i] = k if value > best[i] else classes[i]
            best[i] = value if value > best[i] else best[i]


def _ordered(bits):
    # A bfloat16's bits as an integer that compares as it does, -0 and 0 alike.
    sign = bits >> np.int16(15)
    return np.int16((bits ^ (sign & np.int16(0x7FFF))) - sign)


def _unpair(classes, upper, lower):
    for x in range(upper.size // 2):
        upper[2 * x], upper[2 * x + 1] = classes[4 * x], classes[4 * x + 1]
        lower[2 * x], lower[2 * x + 1] = classes[4 * x + 2], classes[4 * x + 3]


# Each after those that it calls.
LOOPS = (_ordered, _largest_of_tile, _unpair, label_tiles)
