"""manifest-N: one whole version and the options, written once, twice in the file (docs/formats.md, "Manifest snapshot").

A copy is the encoded version (events.py) cut into parts of PART_BYTES, each a block frame of type MANIFEST whose ordinal is the part's
number. The first copy starts at 0, the second, byte for byte the same, at the next multiple of 4096, so that one damaged sector or a
lost end leaves the other whole. CURRENT says how long a copy is, and has a digest over the frame headers, which hold the checksums of the
payloads: it binds the content without standing in the way of repairing a payload from parity.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CorruptionError
from ..storage.block_frame import HEADER_BYTES, FrameType, open_frame, read_header, seal_frame
from ..storage.checksum import checksum128
from ..storage.compression import Codec
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import FileSystem
from .events import decode_version, encode_version
from .version import Version

PART_BYTES = 4 << 20
COPY_ALIGNMENT = 4096
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class SnapshotDigest:
    """What CURRENT keeps of a snapshot. length: bytes of one copy; digest: 16 bytes, see the module."""

    length: int
    digest: bytes


def write_snapshot(fs: FileSystem, directory: str, generation: int, version: Version, options_text: str, cipher: FileCipher | None) -> SnapshotDigest:
    """Make the file `manifest-<generation>` and sync it; its name is not durable before the directory is synced."""
    raw = encode_version(version, options_text)
    parts = [raw[start : start + PART_BYTES] for start in range(0, len(raw), PART_BYTES)]
    frames = [
        seal_frame(FrameType.MANIFEST, part, codec=Codec.ZSTD, level=_LEVEL, cipher=cipher, ordinal=ordinal) for ordinal, part in enumerate(parts)
    ]
    copy = b"".join(frames)
    file = fs.create(fs.join(directory, file_name(FileKind.MANIFEST, generation)))
    try:
        file.append(copy.ljust(_second_copy(len(copy)), b"\0") + copy)
        file.sync()  # CURRENT will promise these bytes.
    finally:
        file.close()
    return SnapshotDigest(len(copy), _digest(generation, [frame[:HEADER_BYTES] for frame in frames]))


def read_snapshot(fs: FileSystem, directory: str, generation: int, expected: SnapshotDigest, cipher: FileCipher | None) -> tuple[Version, str]:
    """The version and options text from the first intact copy; CorruptionError with what is wrong with the first when neither is."""
    path = fs.join(directory, file_name(FileKind.MANIFEST, generation))
    try:
        data = fs.read(path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the manifest snapshot that CURRENT names is missing", "restore the directory from a backup") from None
    damage = None
    for start in (0, _second_copy(expected.length)):
        try:
            return _read_copy(path, data, start, generation, expected, cipher)
        except CorruptionError as error:
            damage = damage or error
    assert damage is not None
    raise damage


def _read_copy(path: str, data: bytes, start: int, generation: int, expected: SnapshotDigest, cipher: FileCipher | None) -> tuple[Version, str]:
    end = start + expected.length
    if end > len(data):
        raise CorruptionError(path, len(data), f"manifest snapshot is cut short: a copy should reach byte {end}")
    headers: list[bytes] = []
    parts: list[bytes] = []
    offset = start
    while offset < end:
        header = read_header(path, offset, data[offset : min(end, offset + HEADER_BYTES)], FrameType.MANIFEST)
        if header.frame_length > end - offset or header.raw_length > PART_BYTES:
            raise CorruptionError(path, offset, "manifest frame runs past its copy")
        frame = data[offset : offset + header.frame_length]
        headers.append(frame[:HEADER_BYTES])
        parts.append(open_frame(path, offset, frame, FrameType.MANIFEST, cipher, len(parts)))
        offset += header.frame_length
    if _digest(generation, headers) != expected.digest:
        raise CorruptionError(path, start, "manifest snapshot is not the one that CURRENT names")
    try:
        return decode_version(b"".join(parts))
    except ValueError as error:
        raise CorruptionError(path, start, f"manifest snapshot makes no sense: {error}") from None


def _second_copy(length: int) -> int:
    return -(-length // COPY_ALIGNMENT) * COPY_ALIGNMENT


def _digest(generation: int, headers: list[bytes]) -> bytes:
    return checksum128(generation.to_bytes(8, "little") + b"".join(headers))
