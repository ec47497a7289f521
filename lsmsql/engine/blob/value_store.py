"""ValueStore: values by pointers, over a store of frames. The door through which the engine goes.

Who owns what: the slot map is authoritative for where a frame lies, the manifest and its SSTables for which frames are linked. In two phases:
`write`, `sync`, then the edit that links the frames; an edit that unlinks frames, then `free`. A crash in between leaves frames that nothing links;
`keep_only` frees them when the engine opens, and finds those that are linked and not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from ...parity_scheme import ParityScheme
from ..storage.compression import Codec
from ..storage.dictionary import Dictionary
from ..storage.encryption import FileCipher
from ..storage.filesystem import Bytes
from ..storage.keyring import Keyring
from ..storage.parity import Repairs
from .directory_cache import CACHE_BYTES, DirectoryCache
from .frame_reader import Dictionaries, FrameReader
from .frame_store import FrameStatistics, FrameStore
from .garbage import rewritten
from .pointer import BlobPointer
from .value_stream import ValueStream, read_range, read_stretch
from .value_writer import BATCH_BYTES, ValueWriter

_KEY_ID = (1 << 64) - 1  # The blob file is encrypted as file 2^64 - 1, so under a key of its own; its pieces are bound to their frames.


def blob_cipher(keyring: Keyring | None) -> FileCipher | None:
    """The cipher of the blob file."""
    return keyring.cipher(_KEY_ID) if keyring else None


class ValueStore:
    """See the module. Any thread. repairs: frames that were read only by repair."""

    def __init__(
        self,
        store: FrameStore,
        database_id: bytes,
        keyring: Keyring | None = None,
        *,
        dictionaries: Dictionaries = lambda _: None,
        repairs: Repairs | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.frames = store
        self.repairs = repairs if repairs is not None else Repairs()
        self._database_id = database_id
        self._cipher = blob_cipher(keyring)
        self._cache = DirectoryCache(cache_bytes)
        self._reader = FrameReader(store, database_id, self._cipher, dictionaries, self.repairs, self._cache)
        self._quick_values = self._reader.quick_values

    def writer(
        self, *, codec: int = Codec.ZSTD, level: int = 1, dictionary: Dictionary | None = None, parity: ParityScheme | None = None
    ) -> ValueWriter:
        """For one flush, compaction or ingest. What it compresses by a dictionary needs that at every reading."""
        return ValueWriter(self.frames, self._database_id, self._cipher, codec=codec, level=level, dictionary=dictionary, parity=parity)

    def write(self, values: Iterable[Bytes], *, codec: int = Codec.ZSTD, parity: ParityScheme | None = None) -> list[BlobPointer]:
        """Write values; they can be read, and survive a crash from the next `sync` on."""
        writer = self.writer(codec=codec, parity=parity)
        pointers = writer.add_all(values)
        writer.flush()
        return pointers

    def sync(self) -> None:
        """Make durable what was written and freed: first the values, then the map that says where they are."""
        self.frames.sync()

    def read(self, pointer: BlobPointer) -> bytes:
        """The value. CorruptionError, naming frame, value and place, if it is damaged beyond repair, or was collected."""
        frame_id, ordinal, raw_length, _, stretch = pointer
        if not stretch:
            found = self._quick_values(((frame_id, ordinal, raw_length),))[0]
            if found is not None:
                return found
        with self.frames.pin():
            if not stretch:
                return self._reader.value(frame_id, ordinal, raw_length)
            return b"".join([read_stretch(self._reader.value, pointer, number) for number in range(len(pointer.frames))])

    def read_range(self, pointer: BlobPointer, offset: int, size: int) -> bytes:
        """Some bytes of the value, fewer where it ends. Only the frames that hold them are read."""
        with self.frames.pin():
            return read_range(self._reader.value, pointer, offset, size)

    def read_many(self, pointers: Sequence[BlobPointer]) -> list[bytes]:
        """As `read`, of many; where the disk must be asked, several at a time."""
        with self.frames.pin():
            whole = [pointer[:3] for pointer in pointers if not pointer.stretch]
            if self._reader.are_cached(whole):
                quick = iter(self._reader.quick_values(whole))
                found = [None if pointer.stretch else next(quick) for pointer in pointers]
                return [self.read(pointer) if value is None else value for pointer, value in zip(pointers, found, strict=True)]
            slow = iter(self._reader.values(whole))
            return [self.read(pointer) if pointer.stretch else next(slow) for pointer in pointers]

    def open(self, pointer: BlobPointer) -> ValueStream:
        """The value as a file, read a stretch at a time. It holds no pin: that frames stay linked is up to whoever has the pointer."""
        return ValueStream(self.read_stretch, pointer)

    def read_stretch(self, frame_id: int, ordinal: int, raw_length: int) -> bytes:
        """One value of one frame: what a ValueStream reads."""
        with self.frames.pin():
            return self._reader.value(frame_id, ordinal, raw_length)

    def pin(self) -> AbstractContextManager[object]:
        return self.frames.pin()

    def free(self, frame_ids: Collection[int]) -> None:
        """Nothing durable links these frames any more, and no read view. Their room is used again after the next `sync`, once all pins of now and
        readers in other processes are gone."""
        self.frames.free(frame_ids)
        for frame_id in frame_ids:
            self._cache.drop(frame_id)

    def relocate(self, dead: Mapping[int, Collection[int]]) -> int:
        """Write frames again, each without its dead ordinals; pointers to the others stay as they are. Returns how many bytes were written.

        dead: by frame id. A frame without a live value is freed. To be synced like any write. CorruptionError if a live value cannot be read: frames
        before it, in the order of `dead`, may have been relocated, it and those behind it have not."""
        written = 0
        batch = []
        batch_bytes = 0
        try:
            for frame_id, ordinals in dead.items():
                with self.frames.pin():
                    frame = rewritten(self.frames, self._reader, frame_id, ordinals, self._database_id, self._cipher)
                if frame is None:
                    self.free([frame_id])
                    continue
                batch.append(frame)
                batch_bytes += frame.length
                if batch_bytes >= BATCH_BYTES:
                    ready, batch, batch_bytes = batch, [], 0
                    self.frames.write(ready)
                    written += sum(one.length for one in ready)
        finally:
            if batch:
                self.frames.write(batch)
        return written + batch_bytes

    def keep_only(self, frame_ids: Collection[int]) -> int:
        """After a crash: free every frame that is not linked, and say how many those were. CorruptionError if a linked one is not there."""
        return self.frames.keep_only(frame_ids)

    def verify(self) -> None:
        """Read every value; CorruptionError for the first that cannot be."""
        for record in self.frames.frames():
            with self.frames.pin():
                for ordinal in range(record.values):
                    located = self._reader.find(record.frame_id, ordinal)
                    if located is not None:
                        data = self.frames.read(located.record, located.entry.offset, located.entry.stored_length)
                        self._reader.raw(located, self._reader.stored(located, data), located.entry.raw_length)

    def statistics(self) -> FrameStatistics:
        return self.frames.statistics()

    def close(self) -> None:
        self.frames.close()
