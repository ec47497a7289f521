"""Entry kinds and the seqno line, shared by every kernel. The values are on disk: never renumber."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What an entry does to its key. A block's or table's kind mask is the OR of `1 << kind`."""

    TOMBSTONE = 0
    VALUE = 1
    WEAK_TOMBSTONE = 2
    MERGE_OPERAND = 3
    COMPOUND = 4
    BLOB_POINTER = 5


class FilterKind(IntEnum):
    """What a table's filter is: the version byte of its block."""

    NONE = 0
    BLOOM = 1
    BURR = 2


KIND_WRITABLE_MAX = Kind.VALUE  # kinds beyond do not come from commits
KINDS_READABLE = 1 << Kind.TOMBSTONE | 1 << Kind.VALUE | 1 << Kind.BLOB_POINTER  # in tables; this version refuses to read the others
SELECT_TREE = 0xFF  # an operation of the encoding, not an entry: the following operations go to another tree
SEQNO_MAX = (1 << 56) - 1  # the largest seqno a commit can have
BATCH_SEQNO = 1 << 62  # operation n of an uncommitted batch reads as seqno BATCH_SEQNO + n: newer than every commit
KEY_BYTES_MAX = 65_535
BLOCK_KEY_BYTES_MAX = 256 << 20  # of all keys of a data block: sixteen times what the options allow, and little beside what a forged block could say
VALUE_BYTES_MAX = 1_000_000_000
POINTER_BYTES = 24  # of an entry of kind BLOB_POINTER: where its value stands apart
BATCH_BYTES_MAX = (1 << 32) - 1
INDEX_BYTES = 64 << 20  # of a table's index, or top-level index, raw: where the table is cut, well before a section's limit
FILTER_BYTES = 128 << 20  # of a table's filter if it is one block, raw: likewise
DUPLICATES = 0x80  # in an index entry's kind mask: the block shares a user key within itself or with a neighbour
