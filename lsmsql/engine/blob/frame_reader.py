"""Values out of frames: checked, repaired from the frame's parity where that is needed and can be, decrypted, decompressed.

Each value has a checksum of its own, so damage beyond repair takes only the values that it lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...errors import CorruptionError, KeyUnavailableError
from ...parity_scheme import ParityScheme
from ..storage.checksum import checksum128, xxh3_128_digest
from ..storage.compression import Codec, decompress, quick_decompress
from ..storage.dictionary import Dictionary
from ..storage.encryption import FileCipher
from ..storage.parity import Repairs, repair
from .directory_cache import DirectoryCache
from .frame_record import FrameRecord
from .frame_store import FrameStore, Read
from .pointer import VALUE_BYTES_MAX
from .value_frame import ENTRY_BYTES, VALUE_SECTION, Directory, Entry, directory_bytes, parse_directory, unpack_entry

_PROBES = 2

Dictionaries = Callable[[int], Dictionary | None]


class Located(NamedTuple):
    """A value's place, looked up under a pin."""

    record: FrameRecord
    directory: Directory
    ordinal: int
    entry: Entry

    @property
    def dictionary_id(self) -> int:
        """Of the dictionary that the value is compressed with, 0 for none."""
        return self.directory.dictionary if self.entry.codec == Codec.ZSTD_DICTIONARY else 0


class FrameReader:
    """Reads the values of a store. Any thread; every call is to be made under a pin of the store.

    cipher: of the blob file, None for a database that is not encrypted. dictionaries: finds those that frames name. repairs: where frames that were
    read only by repair are counted.
    """

    def __init__(
        self,
        store: FrameStore,
        database_id: bytes,
        cipher: FileCipher | None,
        dictionaries: Dictionaries,
        repairs: Repairs,
        cache: DirectoryCache,
    ) -> None:
        self._store = store
        self._database_id = database_id
        self._cipher = cipher
        self._dictionaries = dictionaries
        self._repairs = repairs
        self._cache = cache

    def locate(self, frame_id: int, ordinal: int) -> Located:
        """CorruptionError if there is no such frame or value, or the value was left out as dead."""
        located = self.find(frame_id, ordinal)
        if located is None:
            raise self._damage(self._store.record(frame_id), f"value {ordinal} was collected as garbage")
        return located

    def find(self, frame_id: int, ordinal: int) -> Located | None:
        """As `locate`, but None for a value that was left out."""
        record = self._store.record(frame_id)
        directory = self._cache.get(frame_id)
        if directory is None or directory.record is not record:
            directory = self._directory(record)
            self._cache.put(frame_id, directory)
        try:
            entry = directory.entry(ordinal)
        except ValueError as error:
            raise self._damage(record, str(error)) from None
        return Located(record, directory, ordinal, entry) if entry.offset else None

    def quick_values(self, wanted: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
        """(frame id, ordinal, raw length) -> the value where that is simple: its directory is in memory, no dictionary is needed, nothing is damaged,
        and nothing was reused meanwhile; else None. Needs no pin."""
        store, directory_of = self._store, self._cache.get
        record_of, read, encrypted = store.record, store.read, self._cipher is not None
        reuses = store.reuses
        found: list[bytes | None] = []
        for frame_id, ordinal, raw_length in wanted:
            value = None
            record = record_of(frame_id)
            directory = directory_of(frame_id)
            if directory is not None and directory.record is record and 0 <= ordinal < record.values:
                offset, stored_length, raw, codec, _, epoch, digest = unpack_entry(directory.entries, ordinal * ENTRY_BYTES)
                if offset and codec <= 1 and raw == raw_length and (epoch != 0) is encrypted:
                    data = read(record, offset, stored_length)
                    if xxh3_128_digest(data)[::-1] == digest:
                        plain = _quickly_opened(directory.cipher, epoch, ordinal, codec, data) if epoch else data
                        if plain is not None:
                            value = quick_decompress(plain, raw_length) if codec else plain if len(plain) == raw_length else None
            found.append(value)
        return found if store.reuses == reuses else [None] * len(found)

    def value(self, frame_id: int, ordinal: int, raw_length: int) -> bytes:
        """The value, which the pointer says to be that long."""
        located = self.locate(frame_id, ordinal)
        entry = located.entry
        return self.raw(located, self.stored(located, self._store.read(located.record, entry.offset, entry.stored_length)), raw_length)

    def are_cached(self, wanted: Sequence[tuple[int, int, int]]) -> bool:
        """Whether reading these (frame id, ordinal, raw length) would not wait for the disk, by a look at a few of them."""
        for frame_id, ordinal, _ in wanted[:: -(-len(wanted) // _PROBES) or 1]:
            located = self.locate(frame_id, ordinal)
            if not self._store.is_cached(located.record, located.entry.offset):
                return False
        return True

    def values(self, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """As `value`, of many (frame id, ordinal, raw length)."""
        located = [self.locate(frame_id, ordinal) for frame_id, ordinal, _ in wanted]
        pieces = self._store.read_many([Read(one.record, one.entry.offset, one.entry.stored_length) for one in located])
        return [self.raw(one, self.stored(one, data), raw_length) for one, data, (_, _, raw_length) in zip(located, pieces, wanted, strict=True)]

    def stored(self, located: Located, data: bytes) -> bytes:
        """The value as it was stored, out of what was read; CorruptionError if it is damaged beyond what its frame's parity repairs."""
        record, _, ordinal, entry = located
        if checksum128(data) == entry.digest and len(data) == entry.stored_length:
            return data
        end = entry.offset + entry.stored_length

        def passes(frame: bytes) -> bool:
            return checksum128(frame[entry.offset : end]) == entry.digest

        return self._repaired(record, passes, f"value {ordinal} does not match its checksum", entry.offset)[entry.offset : end]

    def raw(self, located: Located, data: bytes, raw_length: int) -> bytes:
        """The value itself. CorruptionError if it cannot be decrypted, or is not what the pointer says."""
        record, _, ordinal, entry = located
        if raw_length != entry.raw_length or raw_length > VALUE_BYTES_MAX:
            raise self._damage(record, f"value {ordinal} has {entry.raw_length} bytes, not the {raw_length} of its pointer", entry.offset)
        plain = self.opened(located, data)
        codec = entry.codec
        if not codec and len(plain) == raw_length:
            return plain
        try:
            return decompress(plain, codec, raw_length, self._dictionary(located.dictionary_id))
        except ValueError as error:
            raise self._damage(record, f"value {ordinal} {error}", entry.offset) from None

    def opened(self, located: Located, data: bytes) -> bytes:
        """The value decrypted, not decompressed."""
        record, _, ordinal, entry = located
        epoch = entry.epoch
        if (self._cipher is None) is not (epoch == 0):
            raise self._damage(record, f"value {ordinal} and the database are not both encrypted", entry.offset)
        if self._cipher is None:
            return data
        try:
            cipher = located.directory.cipher
            if cipher is None or cipher.epoch != epoch:
                cipher = located.directory.cipher = self._cipher.at(epoch).of_frame(record.frame_id)
            return cipher.open(VALUE_SECTION, ordinal, entry.codec, located.dictionary_id, data)
        except KeyUnavailableError:
            raise self._damage(record, f"value {ordinal}: key epoch {epoch} is not in KEYS", entry.offset) from None
        except ValueError as error:
            raise self._damage(record, f"value {ordinal}: {error}", entry.offset) from None

    def _dictionary(self, dictionary_id: int) -> Dictionary | None:
        if not dictionary_id:
            return None
        found = self._dictionaries(dictionary_id)
        if found is None:
            raise ValueError(f"it needs dictionary {dictionary_id:#010x}, which is not there")
        return found

    def _directory(self, record: FrameRecord) -> Directory:
        size = directory_bytes(record)
        try:
            return parse_directory(self._store.read(record, 0, size), record, self._database_id)
        except ValueError as error:
            frame = self._repaired(record, lambda frame: _parses(frame, record, self._database_id), str(error), 0)
            return parse_directory(frame, record, self._database_id)

    def _repaired(self, record: FrameRecord, passes: Callable[[bytes], bool], what: str, offset: int) -> bytes:
        """The frame without parity, of which `passes` holds."""
        scheme = ParityScheme.of_code(record.parity)
        if not scheme:
            raise self._damage(record, what, offset)
        damaged = self._store.read(record, 0, record.length).ljust(record.length, b"\0")
        try:
            frame = repair(scheme, damaged, scheme.frame_length(record.length), passes)
        except ValueError:  # No frame has that length with its parity.
            frame = None
        if frame is None:
            raise self._damage(record, what, offset, f"parity {scheme} could not repair it")
        self._repairs.add(self._store.path, record.offset)
        return frame

    def _damage(self, record: FrameRecord, what: str, offset: int = 0, advice: str = "") -> CorruptionError:
        return CorruptionError(self._store.path, record.offset + offset, f"frame {record.frame_id}: {what}", advice)


def _quickly_opened(cipher: FileCipher | None, epoch: int, ordinal: int, codec: int, sealed: bytes) -> bytes | None:
    if cipher is None or cipher.epoch != epoch:
        return None
    try:
        return cipher.open(VALUE_SECTION, ordinal, codec, 0, sealed)
    except ValueError:
        return None


def _parses(frame: bytes, record: FrameRecord, database_id: bytes) -> bool:
    try:
        parse_directory(frame, record, database_id)
    except ValueError:
        return False
    return True
