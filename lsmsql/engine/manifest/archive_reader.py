"""ArchiveReader: the sections of a manifest archive, out of whatever is whole of its copies (docs/formats.md, "Manifest archive").

The footer is taken from the tail of a copy, else from its mirror in the head, else from the next copy; what does not have the digest in CURRENT
is none. Each frame likewise: repaired by its parity, else read from the next copy. As every section is held against its checksum in
that footer, it does not matter which copy its frames come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from ...errors import CorruptionError
from ..storage.block_frame import FrameType, mend_frame, open_frame, peek_header
from ..storage.checksum import checksum128
from ..storage.encryption import FileCipher
from ..storage.parity import METADATA, Repairs
from .archive_footer import FOOTER_BYTES_MAX, HEAD_BYTES, HINT, PART_BYTES, ArchiveSection, Footer, parse_footer
from .archive_writer import DIGEST


class ArchiveReader:
    """path: for messages; data: the file; copies: where each copy of the archive begins; length: bytes of one copy. repairs: where frames are
    counted that only parity, a mirror or another copy could give."""

    def __init__(
        self,
        path: str,
        data: bytes,
        copies: Sequence[int],
        length: int,
        cipher: FileCipher | None,
        *,
        accept: Callable[[Footer], bool] = lambda _: True,
        repairs: Repairs | None = None,
    ) -> None:
        """Find the footer. accept: whether one that is whole is the one that is looked for. CorruptionError, about the first copy, if none is."""
        self._path = path
        self._data = data
        self._copies = copies
        self._length = length
        self._cipher = cipher
        self._repairs = repairs
        self.footer = self._find_footer(accept)
        starts = [0, *accumulate(len(section.frames) for section in self.footer.sections)]
        self._first_frames = {section.name: start for section, start in zip(self.footer.sections, starts, strict=False)}

    def names(self) -> list[str]:
        """Of the sections, in file order."""
        return [section.name for section in self.footer.sections]

    def read(self, name: str) -> bytes:
        """The content of a section, which must be one of `names()`. CorruptionError when no copy of a part of it is whole, or they do not add up
        to what the footer says."""
        section = next(section for section in self.footer.sections if section.name == name)
        parts: list[bytes] = []
        digests: list[bytes] = []
        offset, first = section.offset, self._first_frames[name]
        for number, size in enumerate(section.frames):
            frame, part = self._frame(offset, size, first + number)
            digests.append(frame[DIGEST])
            parts.append(part)
            offset += size
        place = self._copies[0] + section.offset
        if checksum128(b"".join(digests)) != section.checksum:
            raise CorruptionError(self._path, place, f"section {name!r} of the manifest is not the one that its footer describes")
        self._check_lengths(section, parts, place)
        return b"".join(parts)

    def _check_lengths(self, section: ArchiveSection, parts: list[bytes], place: int) -> None:
        whole = all(len(part) == PART_BYTES for part in parts[:-1]) and sum(map(len, parts)) == section.raw_bytes
        if not whole:
            raise CorruptionError(self._path, place, f"section {section.name!r} of the manifest has not the size that its footer says")

    def _frame(self, offset: int, size: int, ordinal: int) -> tuple[bytes, bytes]:
        """(frame, content) from the first copy that has it."""
        damage: CorruptionError | None = None
        for start in self._copies:
            place = start + offset
            try:
                stored = self._data[place : place + size]
                if len(stored) != size:
                    raise CorruptionError(self._path, len(self._data), f"the manifest snapshot is cut short: a copy should reach byte {place + size}")
                frame = mend_frame(self._path, place, stored, FrameType.MANIFEST, METADATA, self._repairs)
                self._check_part(frame, place)
                content = open_frame(self._path, place, frame, FrameType.MANIFEST, self._cipher, ordinal, METADATA)
            except CorruptionError as error:
                damage = damage or error
                continue
            self._count(damage)
            return frame, content
        assert damage is not None
        raise damage

    def _check_part(self, frame: bytes, place: int) -> None:
        """CorruptionError for a frame that says it holds more than a part can, before room is made for that."""
        found = peek_header(frame)
        if found is not None and found[0].raw_length > PART_BYTES:
            raise CorruptionError(self._path, place, f"a part of the manifest cannot have {found[0].raw_length} bytes")

    def _find_footer(self, accept: Callable[[Footer], bool]) -> Footer:
        damage: CorruptionError | None = None
        for start in self._copies:
            for read in (self._at_the_tail, self._in_the_head):
                try:
                    place, stored = read(start)
                    footer = self._open_footer(place, stored)
                except CorruptionError as error:
                    damage = damage or error
                    continue
                if accept(footer):
                    self._count(damage)
                    return footer
                damage = damage or CorruptionError(self._path, place, "the manifest snapshot is not the one that CURRENT names")
        assert damage is not None
        raise damage

    def _count(self, damage: CorruptionError | None) -> None:
        if damage is not None and self._repairs is not None:
            self._repairs.add(self._path, damage.offset or 0)

    def _at_the_tail(self, start: int) -> tuple[int, bytes]:
        end = start + self._length
        if end > len(self._data):
            raise CorruptionError(self._path, len(self._data), f"the manifest snapshot is cut short: a copy should reach byte {end}")
        region = self._data[max(start, end - FOOTER_BYTES_MAX) : end]
        size = self._hinted(region, end - HINT.size)
        return end - HINT.size - size, region[-HINT.size - size : -HINT.size]

    def _in_the_head(self, start: int) -> tuple[int, bytes]:
        region = self._data[start : start + HEAD_BYTES]
        if len(region) < HEAD_BYTES:
            raise CorruptionError(self._path, len(self._data), "the manifest snapshot ends within its first 4 KiB")
        return start, region[: self._hinted(region, start + HEAD_BYTES - HINT.size)]

    def _hinted(self, region: bytes, place: int) -> int:
        """The size that a region's last bytes say the footer has."""
        (size,) = HINT.unpack(region[-HINT.size :].rjust(HINT.size, b"\0"))
        if not 0 < size <= len(region) - HINT.size:
            raise CorruptionError(self._path, place, f"the manifest's footer cannot have {size} bytes")
        return int(size)

    def _open_footer(self, place: int, stored: bytes) -> Footer:
        raw = open_frame(self._path, place, stored, FrameType.FOOTER, self._cipher, 0, METADATA, self._repairs)
        try:
            return parse_footer(raw, self._length)
        except ValueError as error:
            raise CorruptionError(self._path, place, f"the manifest's footer makes no sense: {error}") from None
