"""Values into frames: compressed, encrypted, packed as many to a frame as fit; one that fits into none is cut into stretches with a frame each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...errors import UsageError
from ...parity_scheme import ParityScheme
from ..storage.compression import Codec, compress
from ..storage.dictionary import Dictionary
from ..storage.encryption import FileCipher
from ..storage.filesystem import Bytes
from .frame_store import FrameStore, NewFrame
from .pointer import VALUE_BYTES_MAX, BlobPointer
from .value_frame import ENTRY_BYTES, HEADER_BYTES, VALUE_SECTION, Stored, body_bytes_max, pack_frame, stretch_bytes

BATCH_BYTES = 4 << 20  # of frames in memory before they are written
_WHOLE_STRETCHES_MAX = 4  # A value that is read in ranges should not have to be decompressed far before them.
_FRUITLESS_MAX, _TRY_EVERY = 16, 8
_SAMPLE_BYTES = 32 << 10
_OVERHEAD_MAX = 64  # of a value that is encrypted
_STRETCHES_MAX = -(-VALUE_BYTES_MAX // 4096)


class ValueWriter:
    """Writes values to a store. One thread at a time; nothing is durable before the store is synced. After an error none of the pointers since the
    last `flush` leads anywhere, and the writer takes nothing more.

    cipher: of the blob file, by which values are encrypted; codec, level, dictionary: what to try on each value; parity: of every frame.
    """

    def __init__(
        self,
        store: FrameStore,
        database_id: bytes,
        cipher: FileCipher | None = None,
        *,
        codec: int = Codec.ZSTD,
        level: int = 1,
        dictionary: Dictionary | None = None,
        parity: ParityScheme | None = None,
    ) -> None:
        self._store = store
        self._database_id = database_id
        self._cipher = cipher
        self._codec = Codec.ZSTD_DICTIONARY if dictionary is not None and codec else codec
        self._level = level
        self._dictionary = dictionary if codec else None
        self._dictionary_id = dictionary.id if dictionary is not None and codec else 0
        self._parity = parity or ParityScheme()
        self._body_max = body_bytes_max(self._parity)
        self.stretch = stretch_bytes(self._parity)
        self._ready: list[NewFrame] = []
        self._ready_bytes = 0
        self._failed = False
        self._fruitless = 0  # values since compression last made one smaller
        self._begin()

    def _begin(self) -> None:
        self._frame_id = 0  # Reserved with the first value.
        self._values: list[Stored] = []
        self._frame_cipher: FileCipher | None = None
        self._room = self._body_max - HEADER_BYTES

    def add(self, value: Bytes) -> BlobPointer:
        """Take one value, of at most 10^9 bytes. It can be read once `flush` has returned."""
        raw_length = len(value)
        if self._failed:
            raise UsageError("a write of this writer has failed before")
        if raw_length <= self.stretch:
            codec, data = self._compress(value)
        else:
            whole = self._compressed_to_fit(value)
            if whole is None:
                return self.add_stream([value], raw_length)
            codec, data = whole
        if len(data) + ENTRY_BYTES + _OVERHEAD_MAX > self._room:
            self._close_frame()
        if not self._frame_id:
            self._frame_id = self._store.reserve()
            self._frame_cipher = self._cipher.of_frame(self._frame_id) if self._cipher is not None else None
        ordinal = len(self._values)
        stored = self._seal(data, raw_length, codec, self._frame_cipher, ordinal)
        self._values.append(stored)
        length = len(stored.data)
        self._room -= length + ENTRY_BYTES
        return BlobPointer(self._frame_id, ordinal, raw_length, length)

    def _compress(self, value: Bytes) -> tuple[int, Bytes]:
        """Where nothing was made smaller for a while, only some values are tried."""
        if self._fruitless >= _FRUITLESS_MAX and self._fruitless % _TRY_EVERY:
            self._fruitless += 1
            return Codec.NONE, value
        found = compress(value, self._codec, self._level, self._dictionary)
        self._fruitless = 0 if found[0] else self._fruitless + 1
        return found

    def _compressed_to_fit(self, value: Bytes) -> tuple[int, Bytes] | None:
        """A value that is larger than a frame, compressed, if that makes it fit into one: then it is read at once. None for one that is to be cut."""
        raw_length = len(value)
        if not self._codec or raw_length > _WHOLE_STRETCHES_MAX * self.stretch:
            return None
        with memoryview(value) as view:  # Its beginning tells whether it is worth trying.
            sample = compress(view[:_SAMPLE_BYTES], self._codec, self._level, self._dictionary)[1]
        if len(sample) * raw_length > self.stretch * _SAMPLE_BYTES:
            return None
        codec, data = compress(value, self._codec, self._level, self._dictionary)
        return (codec, data) if len(data) <= self.stretch else None

    def add_all(self, values: Iterable[Bytes]) -> list[BlobPointer]:
        return [self.add(value) for value in values]

    def add_stream(self, chunks: Iterable[Bytes], raw_length: int | None = None) -> BlobPointer:
        """Take one value in pieces, of which a few MiB are in memory at any time. raw_length: of all of them, if it is known; UsageError if they have
        another one. A value that turns out to be short is taken as by `add`."""
        pieces = _cut(chunks, self.stretch)
        first = next(pieces, b"")
        second = next(pieces, None)
        if second is None:
            _check_length(len(first), raw_length)
            return self.add(first)
        frame_id = self._store.reserve(_STRETCHES_MAX if raw_length is None else -(-raw_length // self.stretch))
        total = stored = 0
        for number, piece in enumerate(_chain(first, second, pieces), frame_id):
            total += len(piece)
            if total > (VALUE_BYTES_MAX if raw_length is None else raw_length):
                _check_length(total, raw_length)
            codec, data = compress(piece, self._codec, self._level, self._dictionary)
            cipher = self._cipher.of_frame(number) if self._cipher is not None else None
            value = self._seal(data, len(piece), codec, cipher, 0)
            self._take(pack_frame(number, self._database_id, [value], self._parity, self._dictionary_id))
            stored += len(value.data)
        _check_length(total, raw_length)
        return BlobPointer(frame_id, 0, total, stored, self.stretch)

    def flush(self) -> None:
        """Write every value that was taken."""
        self._close_frame()
        self._write()

    def _seal(self, data: Bytes, raw_length: int, codec: int, cipher: FileCipher | None, ordinal: int) -> Stored:
        if cipher is None:  # The frame may be written when the caller has changed a mutable value already.
            return Stored(data if type(data) is bytes else bytes(data), raw_length, codec, 0)
        dictionary = self._dictionary_id if codec == Codec.ZSTD_DICTIONARY else 0
        return Stored(cipher.seal(VALUE_SECTION, ordinal, codec, dictionary, data), raw_length, codec, cipher.epoch)

    def _close_frame(self) -> None:
        if self._values:
            self._take(pack_frame(self._frame_id, self._database_id, self._values, self._parity, self._dictionary_id))
        self._begin()

    def _take(self, frame: NewFrame) -> None:
        self._ready.append(frame)
        self._ready_bytes += frame.length
        if self._ready_bytes >= BATCH_BYTES:
            self._write()

    def _write(self) -> None:
        ready, self._ready, self._ready_bytes = self._ready, [], 0
        if ready:
            self._failed = True
            self._store.write(ready)
            self._failed = False


def _check_length(found: int, expected: int | None) -> None:
    if found > VALUE_BYTES_MAX:
        raise UsageError(f"a value has at most {VALUE_BYTES_MAX} bytes")
    if expected is not None and found != expected:
        raise UsageError(f"a value of {expected} bytes was announced, and {'more' if found > expected else found} came")


def _cut(chunks: Iterable[Bytes], size: int) -> Iterator[Bytes]:
    """The same bytes in pieces of `size`, the last one shorter."""
    rest = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        start = 0
        if rest:
            start = min(size - len(rest), len(view))
            rest += view[:start]
            if len(rest) < size:
                continue
            yield bytes(rest)
            rest = bytearray()
        while len(view) - start >= size:
            yield bytes(view[start : start + size])
            start += size
        rest += view[start:]
    if rest:
        yield bytes(rest)


def _chain(first: Bytes, second: Bytes, rest: Iterable[Bytes]) -> Iterator[Bytes]:
    yield first
    yield second
    yield from rest
