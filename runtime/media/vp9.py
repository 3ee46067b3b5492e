"""The size of VP9 frames before a decoder makes them: libvpx itself has no bound."""

from collections.abc import Iterator

# VP9 Bitstream & Decoding Process Specification 0.6, 6.2 and annex B.
SUPERFRAME, SRGB = 0b110, 7
HEAD = 32  # bytes in which a frame's size stands, if it says one


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the packet ends")
        return (self._value >> self._left) & ((1 << count) - 1)


def largest_size(packet: bytes) -> tuple[int, int]:
    """Height and width of the largest frame of a packet that says its size; (0, 0) where none does."""
    sizes = [_size(frame) for frame in _frames(packet)]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _frames(packet: bytes) -> Iterator[bytes]:
    # Several frames in one packet: their lengths stand behind them, between two bytes that are the same.
    last = packet[-1] if packet else 0
    count, length = (last & 7) + 1, (last >> 3 & 3) + 1
    index = packet[-(2 + count * length) :]
    if last >> 5 != SUPERFRAME or len(index) < 2 + count * length or index[0] != last:
        yield packet[:HEAD]
        return
    at = 0
    for number in range(count):
        begin = 1 + number * length
        yield packet[at : at + HEAD]
        at += int.from_bytes(index[begin : begin + length], "little")


def _size(frame: bytes) -> tuple[int, int]:
    try:
        return _size_of(_Bits(frame))
    except ValueError:
        return 0, 0  # the decoder says what is wrong with it


def _size_of(bits: _Bits) -> tuple[int, int]:
    bits.take(2)
    profile = bits.take(1) | bits.take(1) << 1
    if (profile == 3 and bits.take(1)) or bits.take(1):  # a frame that was decoded before is shown
        return 0, 0
    inter, shown, resilient = bits.take(1), bits.take(1), bits.take(1)
    if not inter:
        bits.take(24)
        _skip_colours(bits, profile)
        return _explicit(bits)
    intra_only = 0 if shown else bits.take(1)
    if not resilient:
        bits.take(2)
    if intra_only:
        bits.take(24)
        if profile:
            _skip_colours(bits, profile)
        bits.take(8)
        return _explicit(bits)
    bits.take(8 + 3 * 4)
    for _ in range(3):
        if bits.take(1):  # as large as a frame before it
            return 0, 0
    return _explicit(bits)


def _skip_colours(bits: _Bits, profile: int) -> None:
    if profile >= 2:
        bits.take(1)
    if bits.take(3) != SRGB:
        bits.take(1 + (3 if profile & 1 else 0))
    elif profile & 1:
        bits.take(1)


def _explicit(bits: _Bits) -> tuple[int, int]:
    width, height = bits.take(16) + 1, bits.take(16) + 1
    return height, width
