"""ArchiveWriter: named sections, one after another, as block frames with parity, and the footer that finds them.

Source of the format: docs/formats.md, "Manifest archive"."""

from __future__ import annotations

from ...errors import UsageError
from ..storage.block_frame import HEADER_BYTES, FrameType, seal_frame
from ..storage.checksum import checksum128
from ..storage.compression import Codec
from ..storage.encryption import FileCipher
from ..storage.parity import METADATA
from .archive_footer import FOOTER_BYTES_MAX, HEAD_BYTES, HINT, PART_BYTES, SECTION_BYTES_MAX, ArchiveSection, Footer, check_name

DIGEST = slice(20, 36)  # Of a frame: of its stored payload.
_LEVEL = 3


class ArchiveWriter:
    """`start` a section, `write` its content in as many pieces as there are, `start` the next, and `finish`.

    The archive is made in memory: its first bytes mirror its last, files here only grow, and it is written twice anyway."""

    def __init__(self, cipher: FileCipher | None, *, mirror: bool = True) -> None:
        """mirror: put the footer into the first 4 KiB, too."""
        self._cipher = cipher
        self._mirror = mirror
        self._frames: list[bytes] = []
        self._sections: list[ArchiveSection] = []
        self._offset = HEAD_BYTES
        self._name = ""  # of the open section
        self._part = bytearray()
        self._raw_bytes = self._first = 0
        self._finished = False

    def start(self, section: str) -> None:
        """Begin a section. UsageError for an empty or overlong name, one that was used, or after `finish`."""
        self._require_unfinished()
        check_name(section)
        self._end_section()
        if section in {other.name for other in self._sections}:
            raise UsageError(f"the archive has a section {section!r} already")
        self._name, self._raw_bytes, self._first = section, 0, len(self._frames)

    def write(self, data: bytes) -> None:
        """Add to the section that was started. UsageError when it grows over SECTION_BYTES_MAX, or there is none."""
        self._require_unfinished()
        if not self._name:
            raise UsageError("no section of the archive was started")
        if self._raw_bytes + len(data) > SECTION_BYTES_MAX:
            raise UsageError(f"section {self._name!r} may hold {SECTION_BYTES_MAX} bytes, not {self._raw_bytes + len(data)}")
        self._raw_bytes += len(data)
        self._part += data
        while len(self._part) >= PART_BYTES:
            self._seal(bytes(self._part[:PART_BYTES]))
            del self._part[:PART_BYTES]

    def finish(self) -> tuple[bytes, Footer]:
        """The whole archive, and its footer. UsageError when the footer does not fit its 4 KiB."""
        self._require_unfinished()
        self._end_section()
        self._finished = True
        footer = Footer(self._mirror, tuple(self._sections))
        frame = seal_frame(FrameType.FOOTER, footer.pack(), cipher=self._cipher, parity=METADATA)
        hint = HINT.pack(len(frame))
        if len(frame) + len(hint) > FOOTER_BYTES_MAX:
            raise UsageError(f"the footer of the archive takes {len(frame) + len(hint)} bytes; {FOOTER_BYTES_MAX} is the limit")
        head = frame.ljust(HEAD_BYTES - len(hint), b"\0") + hint if self._mirror else bytes(HEAD_BYTES)
        return b"".join([head, *self._frames, frame, hint]), footer

    def _end_section(self) -> None:
        if not self._name:
            return
        if self._part:
            self._seal(bytes(self._part))
            self._part.clear()
        frames = self._frames[self._first :]
        checksum = checksum128(b"".join(frame[DIGEST] for frame in frames))
        self._sections.append(ArchiveSection(self._name, self._offset, self._raw_bytes, checksum, tuple(map(len, frames))))
        self._offset += sum(map(len, frames))
        self._name = ""

    def _seal(self, part: bytes) -> None:
        place = len(self._frames)  # Its number in the archive, the same for every copy of it.
        self._frames.append(seal_frame(FrameType.MANIFEST, part, codec=Codec.ZSTD, level=_LEVEL, cipher=self._cipher, ordinal=place, parity=METADATA))

    def _require_unfinished(self) -> None:
        if self._finished:
            raise UsageError("the archive is finished")


assert DIGEST.stop <= HEADER_BYTES
