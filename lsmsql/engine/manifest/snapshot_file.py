"""manifest-N: one whole version and the options, written once, twice in the file (docs/formats.md, "Manifest snapshot").

A copy is a manifest archive, whose sections are those of the encoded version (events.py). The first copy starts at 0, the second, byte for byte
the same, at the next multiple of 4096, so that one damaged sector or a lost end leaves the other whole. CURRENT says how long a copy
is, and has the digest of its parsed footer, which has the checksums of the sections.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CorruptionError
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import FileSystem
from ..storage.parity import Repairs
from .advice import REBUILD
from .archive_reader import ArchiveReader
from .archive_writer import ArchiveWriter
from .events import version_from, version_sections
from .version import Version

COPY_ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class SnapshotDigest:
    """What CURRENT keeps of a snapshot. length: bytes of one copy; digest: 16 bytes, Footer.digest of its generation."""

    length: int
    digest: bytes


def write_snapshot(
    fs: FileSystem, directory: str, generation: int, version: Version, options_text: str, cipher: FileCipher | None, *, mirror: bool = True
) -> SnapshotDigest:
    """Make the file `manifest-<generation>` and sync it; its name is not durable before the directory is synced. mirror: see ArchiveWriter."""
    archive = ArchiveWriter(cipher, mirror=mirror)
    for name, content in version_sections(version, options_text).items():
        archive.start(name)
        archive.write(content)
    copy, footer = archive.finish()
    file = fs.create(fs.join(directory, file_name(FileKind.MANIFEST, generation)))
    try:
        file.append(copy.ljust(_second_copy(len(copy)), b"\0") + copy)
        file.sync()  # CURRENT will promise these bytes.
    finally:
        file.close()
    return SnapshotDigest(len(copy), footer.digest(generation))


def read_snapshot(
    fs: FileSystem, directory: str, generation: int, expected: SnapshotDigest, cipher: FileCipher | None, repairs: Repairs | None = None
) -> tuple[Version, str]:
    """The version and options text, from what is whole of either copy; CorruptionError with what is wrong with the first when that is not enough.

    repairs: where what had to be repaired, or read from a mirror, is counted."""
    path = fs.join(directory, file_name(FileKind.MANIFEST, generation))
    try:
        data = fs.read(path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the manifest snapshot that CURRENT names is missing", REBUILD) from None
    try:
        copies = 0, _second_copy(expected.length)
        archive = ArchiveReader(
            path, data, copies, expected.length, cipher, accept=lambda footer: footer.digest(generation) == expected.digest, repairs=repairs
        )
        sections = {name: archive.read(name) for name in archive.names()}
    except CorruptionError as error:
        raise CorruptionError(path, error.offset, error.message, f"{error.advice}; {REBUILD}" if error.advice else REBUILD) from None
    try:
        return version_from(sections)
    except ValueError as error:
        raise CorruptionError(path, 0, f"manifest snapshot makes no sense: {error}") from None


def _second_copy(length: int) -> int:
    return -(-length // COPY_ALIGNMENT) * COPY_ALIGNMENT
