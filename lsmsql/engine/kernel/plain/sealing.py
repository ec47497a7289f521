"""Raw blocks into frames: compressed, encrypted, checksummed, with parity."""

from __future__ import annotations

from itertools import accumulate, pairwise
from struct import Struct

from ....errors import UsageError
from ....parity_scheme import ParityScheme
from ...storage.block_frame import HEADER_BYTES, FrameType, seal_many
from ...storage.compression import LEAD_BYTES_MAX, Codec, Lead, compress
from ...storage.dictionary import Dictionary
from ...storage.encryption import FileCipher
from ..chunk import RawChunk, SealedBlocks


class BlockSealer:
    """Seals the blocks of raw chunks. Arguments as TableStream's."""

    def __init__(
        self, *, compression_level: int = 0, dictionary: Dictionary | None = None, overhead: int = 0, parity: int = 0, block_parts: int = 1
    ) -> None:
        if not 0 <= compression_level <= 22:
            raise UsageError(f"zstd level must be from 0 to 22, not {compression_level}")
        if dictionary is not None and not compression_level:
            raise UsageError("a dictionary is of use only to what compresses")
        if block_parts < 1 or (block_parts > 1 and not compression_level):
            raise UsageError(f"blocks of {block_parts} parts at zstd level {compression_level}")
        self.compression_level = compression_level
        self._codec = Codec.NONE if not compression_level else Codec.ZSTD if dictionary is None else Codec.ZSTD_DICTIONARY
        self._dictionary = dictionary
        self.overhead = overhead
        self._parity = ParityScheme.of_code(parity)
        self._block_parts = block_parts
        self._lead: Lead | None = None  # of the block that is open

    def payload(self, number: int, raw: bytes) -> tuple[int, int, bytes]:
        """(codec, raw length, payload) of the data block of that number, each of which comes behind the one before."""
        leads = self._block_parts > 1 and number % self._block_parts == 0
        if self._lead is not None and not leads:
            codec, payload = compress(raw, Codec.ZSTD_LEAD, self.compression_level, self._lead)
        else:
            codec, payload = compress(raw, self._codec, self.compression_level, self._dictionary)
        if leads:
            self._take_lead(raw)
        return codec, len(raw), bytes(payload)

    def _take_lead(self, raw: bytes) -> None:
        self._lead = Lead(raw) if 0 < len(raw) <= LEAD_BYTES_MAX else None

    def frame_bytes(self, payload: bytes) -> int:
        """Of the frame of a payload in the file, encryption and parity included."""
        size = HEADER_BYTES + len(payload) + self.overhead
        return size + self._parity.parity_length(size)

    def frames(self, first_block: int, payloads: list[tuple[int, int, bytes]], cipher: FileCipher | None = None) -> bytes:
        """The frames of payloads."""
        found = [(payload, raw_length, codec) for codec, raw_length, payload in payloads]
        dictionary = self._dictionary.id if self._dictionary else 0
        return b"".join(seal_many(FrameType.DATA, found, first_block, cipher, dictionary=dictionary, parity=self._parity))

    def seal(self, raw_chunk: RawChunk, cipher: FileCipher | None = None) -> SealedBlocks:
        """What becomes of a RawChunk's blocks: SealedBlocks. One thread at a time. cipher: of their file, exactly if there is overhead."""
        raw = raw_chunk.raw
        lengths = Struct(f"<{len(raw_chunk.lengths) // 4}I").unpack(raw_chunk.lengths)
        if sum(lengths) != len(raw):
            raise ValueError("the lengths of the blocks are not those of their chunk")
        if (cipher is None) != (self.overhead == 0):
            raise ValueError("blocks are encrypted where their overhead was counted, and nowhere else")
        self._take_lead(raw_chunk.lead)
        blocks = enumerate(pairwise(accumulate(lengths, initial=0)), raw_chunk.first_block)
        payloads = [self.payload(number, raw[start:end]) for number, (start, end) in blocks]
        sizes = Struct(f"<{len(payloads)}I").pack(*(self.frame_bytes(payload) for _, _, payload in payloads))
        codecs = bytes(codec for codec, _, _ in payloads)
        return SealedBlocks(self.frames(raw_chunk.first_block, payloads, cipher), sizes, codecs)
