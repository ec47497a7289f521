"""The manifest's archive: named sections in, the same sections out, whatever is lost of it, or an error that says what."""

from __future__ import annotations

import pytest

from lsmsql.engine.manifest.archive_footer import (
    FOOTER_BYTES_MAX,
    HEAD_BYTES,
    NAME_BYTES_MAX,
    PART_BYTES,
    SECTION_BYTES_MAX,
    ArchiveSection,
    Footer,
    parse_footer,
)
from lsmsql.engine.manifest.archive_reader import ArchiveReader
from lsmsql.engine.manifest.archive_writer import DIGEST, ArchiveWriter
from lsmsql.engine.storage.block_frame import FrameType, seal_frame
from lsmsql.engine.storage.checksum import checksum128
from lsmsql.engine.storage.compression import Codec
from lsmsql.engine.storage.encryption import FileCipher
from lsmsql.engine.storage.parity import METADATA, Repairs
from lsmsql.errors import CorruptionError, UsageError

SECTIONS = {"first": b"one " * 300, "empty": b"", "zw\u00f6lf": bytes(range(256)) * 3}


def cipher(encrypted: bool) -> FileCipher | None:
    return FileCipher(bytes(range(32)), b"d" * 16, 5, 1) if encrypted else None


def written(sections: dict[str, bytes], encrypted: bool = False, mirror: bool = True) -> tuple[bytes, Footer]:
    archive = ArchiveWriter(cipher(encrypted), mirror=mirror)
    for name, content in sections.items():
        archive.start(name)
        for start in range(0, len(content), 100):
            archive.write(content[start : start + 100])
    return archive.finish()


def reader(data: bytes, length: int | None = None, encrypted: bool = False, repairs: Repairs | None = None) -> ArchiveReader:
    return ArchiveReader("m", data, [0], len(data) if length is None else length, cipher(encrypted), repairs=repairs)


both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
@pytest.mark.parametrize("mirror", [False, True])
def test_what_was_written_is_read(encrypted: bool, mirror: bool) -> None:
    data, footer = written(SECTIONS, encrypted, mirror)
    archive = reader(data, encrypted=encrypted)
    assert archive.names() == list(SECTIONS) and archive.footer == footer and footer.mirrored == mirror
    assert {name: archive.read(name) for name in archive.names()} == SECTIONS
    tail = data[-FOOTER_BYTES_MAX:]
    size = int.from_bytes(tail[-4:], "little")
    assert (data[:size] == tail[-4 - size : -4]) is mirror, "byte for byte"
    assert mirror or not any(data[:HEAD_BYTES])
    assert encrypted is (b"one one one" not in data and b"first" not in data)


def test_large_sections_are_cut_into_parts() -> None:
    content = bytes(2 * PART_BYTES + 5)
    data, footer = written({"large": content, "exact": bytes(PART_BYTES), "after": b"x"})
    assert [len(section.frames) for section in footer.sections] == [3, 1, 1]
    archive = reader(data)
    assert (archive.read("large"), len(archive.read("exact")), archive.read("after")) == (content, PART_BYTES, b"x")


@pytest.mark.parametrize("name", ["", "x" * (NAME_BYTES_MAX + 1), "first"])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    archive = ArchiveWriter(None)
    archive.start("first")
    with pytest.raises(UsageError):
        archive.start(name)
    other = ArchiveWriter(None)
    other.start("x" * NAME_BYTES_MAX)
    other.finish()


def test_the_order_of_the_calls_is_kept() -> None:
    archive = ArchiveWriter(None)
    with pytest.raises(UsageError, match="no section"):
        archive.write(b"x")
    archive.start("a")
    archive.finish()
    for call in (lambda: archive.start("b"), lambda: archive.write(b"x"), archive.finish):
        with pytest.raises(UsageError, match="finished"):
            call()


def test_a_section_over_its_limit_is_refused() -> None:
    archive = ArchiveWriter(None)
    archive.start("a")
    archive._raw_bytes = SECTION_BYTES_MAX - 5
    archive.write(b"12345")
    with pytest.raises(UsageError, match="may hold"):
        archive.write(b"6")


def test_a_footer_over_4_kib_is_refused() -> None:
    archive = ArchiveWriter(None)
    for number in range(40):
        archive.start(f"{number:03}" * 20)
    with pytest.raises(UsageError, match="footer of the archive takes"):
        archive.finish()


@both
def test_without_its_tail_the_mirror_serves(encrypted: bool) -> None:
    data, footer = written(SECTIONS, encrypted)
    end = footer.sections[-1].offset + sum(footer.sections[-1].frames)
    repairs = Repairs()
    archive = reader(data[:end].ljust(len(data), b"\0"), encrypted=encrypted, repairs=repairs)
    assert {name: archive.read(name) for name in archive.names()} == SECTIONS and repairs.count == 1
    plain, _ = written(SECTIONS, encrypted, mirror=False)
    with pytest.raises(CorruptionError):
        reader(plain[:end].ljust(len(plain), b"\0"), encrypted=encrypted)


@both
def test_every_byte_can_be_damaged(encrypted: bool) -> None:
    data, _ = written(SECTIONS, encrypted)
    for offset in range(HEAD_BYTES - 10, len(data)):
        for flip in (0x01, 0xFF):
            damaged = data[:offset] + bytes((data[offset] ^ flip,)) + data[offset + 1 :]
            archive = reader(damaged, encrypted=encrypted)
            assert {name: archive.read(name) for name in archive.names()} == SECTIONS, offset


def test_every_length_is_corruption_or_served_by_the_mirror() -> None:
    data, footer = written(SECTIONS)
    end = footer.sections[-1].offset + sum(footer.sections[-1].frames)
    for length in range(0, len(data), 7):
        try:
            archive = reader(data[:length], len(data))
            assert {name: archive.read(name) for name in archive.names()} == SECTIONS and length >= end
        except CorruptionError as error:
            assert error.path == "m" and error.offset is not None and length < end


def test_a_section_that_is_whole_but_another_is_refused() -> None:
    """What a checksum of each frame alone would let through."""
    data, footer = written({"a": b"a" * 100, "b": b"b"})
    other, _ = written({"a": b"c" * 100, "b": b"b"})
    start, size = footer.sections[0].offset, footer.sections[0].frames[0]
    assert other != data and len(other) == len(data)
    mixed = data[:start] + other[start : start + size] + data[start + size :]
    with pytest.raises(CorruptionError, match="not the one that its footer describes"):
        reader(mixed).read("a")


def test_a_part_that_says_it_is_larger_than_a_part_is_refused_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kilobytes that would unpack to gigabytes, with every checksum as it should be."""
    from lsmsql.engine.storage import block_frame

    frame = seal_frame(FrameType.MANIFEST, bytes(PART_BYTES + 1), codec=Codec.ZSTD, parity=METADATA)
    section = ArchiveSection("a", HEAD_BYTES, 9 * PART_BYTES, checksum128(frame[DIGEST] * 9), (len(frame),) * 9)
    footer = seal_frame(FrameType.FOOTER, Footer(False, (section,)).pack(), parity=METADATA)
    archive = reader(bytes(HEAD_BYTES) + frame * 9 + footer + len(footer).to_bytes(4, "little"))

    def unpacked(*_: object) -> bytes:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(block_frame, "decompress", unpacked)
    with pytest.raises(CorruptionError, match=f"cannot have {PART_BYTES + 1} bytes"):
        archive.read("a")


def test_the_digest_is_of_the_fields_and_the_version() -> None:
    section = ArchiveSection("a", HEAD_BYTES, 5, bytes(16), (60,))
    other = ArchiveSection("b", HEAD_BYTES + 60, 5, bytes(16), (60,))
    digest = Footer(True, (section, other)).digest(7)
    assert digest == Footer(True, (other, section)).digest(7), "in the order of names"
    for different in (
        Footer(False, (section, other)),
        Footer(True, (section,)),
        Footer(True, (section, ArchiveSection("b", 0, 5, bytes(16), (60,)))),
    ):
        assert different.digest(7) != digest
    assert Footer(True, (section, other)).digest(8) != digest


def packed(*sections: ArchiveSection) -> bytes:
    return Footer(True, sections).pack()


ONE = ArchiveSection("a", HEAD_BYTES, 5, bytes(16), (60,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\0\0\0",
        b"\1\2\0\0",
        packed(ONE) + b"x",
        packed(ONE)[:-1],
        packed(ONE, ArchiveSection("a", HEAD_BYTES + 60, 5, bytes(16), (60,))),
        packed(ArchiveSection("", HEAD_BYTES, 5, bytes(16), (60,))),
        packed(ArchiveSection("x" * 65, HEAD_BYTES, 5, bytes(16), (60,))),
        packed(ArchiveSection("a", HEAD_BYTES - 1, 5, bytes(16), (60,))),
        packed(ONE, ArchiveSection("b", HEAD_BYTES + 61, 5, bytes(16), (60,))),
        packed(ArchiveSection("a", HEAD_BYTES, 5, bytes(16), (10_000,))),
        packed(ArchiveSection("a", HEAD_BYTES, 5, bytes(16), (60, 60))),
        packed(ArchiveSection("a", HEAD_BYTES, SECTION_BYTES_MAX + 1, bytes(16), (60,) * 257)),
        packed(ONE).replace(b"\1a", b"\1\xff"),
    ],
)
def test_a_footer_that_makes_no_sense_is_refused(data: bytes) -> None:
    parse_footer(packed(ONE), 9000)
    with pytest.raises(ValueError):
        parse_footer(data, 9000)
    frame = seal_frame(FrameType.FOOTER, data, parity=METADATA)
    archive = frame.ljust(HEAD_BYTES, b"\0") + bytes(9000 - HEAD_BYTES - len(frame) - 4) + frame + len(frame).to_bytes(4, "little")
    with pytest.raises(CorruptionError, match=r"makes no sense|cannot have"):
        reader(archive)
