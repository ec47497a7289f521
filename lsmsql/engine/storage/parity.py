"""Parity behind a frame: its size, its bytes, and repair of a damaged frame with it.

parity_plain.py has the code's definition and source; parity_cy.py does the work where it was compiled.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, islice

import reedsolo

from ..._compiled import compiled_module
from ...parity_scheme import ParityScheme
from . import parity_plain
from .filesystem import Bytes

_code = compiled_module("lsmsql.engine.storage.parity_cy") or parity_plain

__all__ = ["TRIALS_MAX", "WORK_BYTES_MAX", "ParityScheme", "Repairs", "add_parity", "add_parity_to_all", "parity_length", "repair"]

METADATA = ParityScheme("rs", 4, 2)
"""The scheme of metadata: fixed, because the properties of a table, which say the scheme of its data, are metadata themselves."""

TRIALS_MAX = 5000
"""Ways to repair a frame that are tried: all that rs(16,4), rs(10,4) and smaller schemes have. Of larger ones those that lost the fewest data."""
WORK_BYTES_MAX = 1 << 30
"""Bytes of frames made by the trials for one repair: a frame of more than 68 MB gets fewer than the 15 ways of rs(4,2)."""
_COLUMNS_MAX = 1000  # of errors at unknown positions, at some 100 us each
_SAMPLES = 64, 16  # parts of the shards, and damaged columns in each, that are looked at to find damaged shards

Judge = Callable[[bytes], bool]


class Repairs:
    """Counts frames that were read only by repair, and remembers where the last ones lie, for a scrub: `places` of (path, offset)."""

    PLACES_MAX = 10_000

    def __init__(self) -> None:
        self.count = 0
        self.places: dict[tuple[str, int], None] = {}
        self._lock = threading.RLock()  # Of readers on several threads, and of signal handlers that read.

    def add(self, path: str, offset: int) -> None:
        with self._lock:
            self.count += 1
            self.places[path, offset] = None
            while len(self.places) > self.PLACES_MAX:
                self.places.pop(next(iter(self.places)))


def parity_length(scheme: ParityScheme, frame_length: int) -> int:
    """Bytes of parity behind a frame."""
    return scheme.parity_length(frame_length)


def add_parity(scheme: ParityScheme, frame: bytes) -> bytes:
    """The frame and its parity."""
    return add_parity_to_all(scheme, [frame])[0]


def add_parity_to_all(scheme: ParityScheme, frames: Sequence[bytes]) -> list[bytes]:
    """Each frame and its parity; compiled, all of them in one stretch without the GIL."""
    if not scheme:
        return list(frames)
    found: list[bytes] = _code.encode_many(frames, scheme.d, scheme.p)
    return found


def repair(scheme: ParityScheme, damaged: Bytes, frame_length: int, judge: Judge) -> bytes | None:
    """The frame that was written, out of its damaged bytes and those of its parity, or None.

    damaged: frame_length bytes of frame, then its parity. judge: whether a frame is whole, by a digest that no wrong frame passes.
    Tried in this order: the shards that the parity itself finds in disagreement; every set of p lost shards, those that lost the least data
    first; single errors at unknown places (`reedsolo`, RS only). That is bounded: TRIALS_MAX sets, WORK_BYTES_MAX of frames made, and some tenth
    of a second for the last, so that a second or two pass on a frame that is beyond repair.
    """
    stored = bytes(damaged)
    if not scheme or frame_length < 1 or len(stored) != frame_length + scheme.parity_length(frame_length):
        return None
    left = min(TRIALS_MAX, max(1, WORK_BYTES_MAX // frame_length))
    for lost in islice(_losses(scheme, stored, frame_length), left):
        frame: bytes = _code.reconstruct(stored, frame_length, scheme.d, scheme.p, lost)
        if judge(frame):
            return frame
    return _correct(scheme, stored, frame_length, judge) if scheme.kind == "rs" and scheme.p > 1 else None


def _losses(scheme: ParityScheme, stored: bytes, frame_length: int) -> Iterator[tuple[int, ...]]:
    """Sets of shards to do without, the likeliest first. Parity shards are numbered from d on."""
    suspects = _suspects(scheme, stored, frame_length)
    if 0 < len(suspects) <= scheme.p:
        yield suspects
    for count in range(min(scheme.d, scheme.p) + 1):
        for data in combinations(range(scheme.d), count):
            for parity in combinations(range(scheme.d, scheme.d + scheme.p), scheme.p - count):
                yield (*data, *parity)


def _difference(scheme: ParityScheme, stored: bytes, frame_length: int) -> tuple[list[bytes], bytes]:
    """The parity of the frame as it is, less the parity that stands behind it, by shards; and all shards of that ORed: 0 where a column agrees."""
    found: bytes = _code.encode_many([stored[:frame_length]], scheme.d, scheme.p)[0]
    shard = scheme.shard_length(frame_length)
    places = [slice(frame_length + n * shard, frame_length + (n + 1) * shard) for n in range(scheme.p)]
    numbers = [int.from_bytes(found[place], "little") ^ int.from_bytes(stored[place], "little") for place in places]
    either = 0
    for number in numbers:
        either |= number
    return [number.to_bytes(shard, "little") for number in numbers], either.to_bytes(shard, "little")


_DAMAGED = re.compile(rb"[^\0]", re.DOTALL)


def _suspects(scheme: ParityScheme, stored: bytes, frame_length: int) -> tuple[int, ...]:
    """Shards that alone account for a column's disagreement, over a sample of the columns. One parity shard cannot tell them apart."""
    if scheme.p < 2:
        return ()
    differences, either = _difference(scheme, stored, frame_length)
    parts, samples = _SAMPLES
    step = -(-len(either) // parts)
    signatures = _signatures(scheme.d, scheme.p)
    found: set[int | None] = set()
    for start in range(0, len(either), step):
        for match in islice(_DAMAGED.finditer(either, start, start + step), samples):
            found.add(signatures.get(_signature([difference[match.start()] for difference in differences])))
    return tuple(sorted(shard for shard in found if shard is not None))


def _signature(column: Sequence[int]) -> bytes:
    """A column's disagreement but for a factor."""
    scale = parity_plain.inverse(next(filter(None, column)))
    return bytes(parity_plain.multiply(scale, value) for value in column)


@lru_cache(64)
def _signatures(d: int, p: int) -> dict[bytes, int]:
    rows = parity_plain.coefficients(d, p)
    found = {_signature([row[shard] for row in rows]): shard for shard in range(d)}
    return found | {_signature([int(n == row) for n in range(p)]): d + row for row in range(p)}


_reedsolo = threading.RLock()  # It makes its tables anew, in globals, with each codec.


def _correct(scheme: ParityScheme, stored: bytes, frame_length: int, judge: Judge) -> bytes | None:
    """The frame with up to p // 2 errors in each column corrected, wherever they are."""
    _, either = _difference(scheme, stored, frame_length)
    shard = scheme.shard_length(frame_length)
    if shard - either.count(0) > _COLUMNS_MAX:
        return None
    padded = bytearray(stored[:frame_length].ljust(scheme.d * shard, b"\0") + stored[frame_length:])
    with _reedsolo:
        try:
            codec = reedsolo.RSCodec(scheme.p)
            for match in _DAMAGED.finditer(either):
                padded[match.start() :: shard] = codec.decode(bytes(padded[match.start() :: shard]))[1]
        except (reedsolo.ReedSolomonError, ArithmeticError, LookupError):  # The last two where others use the library with other tables.
            return None
    frame = bytes(padded[:frame_length])
    return frame if judge(frame) else None
