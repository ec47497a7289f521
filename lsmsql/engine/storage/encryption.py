"""AES-256-GCM for one file: every piece sealed on its own, bound to its place (docs/formats.md, "Encryption").

A sealed piece is nonce (12 bytes) + ciphertext + tag (16 bytes). Associated data, 38 bytes:

    0 16B database id   16 u64 file id   24 u8 section type   25 u32 ordinal in the section   29 u8 codec
    30 u32 dictionary id   34 u32 key epoch

so a piece cannot be moved to another file, section or place without failing to open.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from copy import copy

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...errors import KeyUnavailableError, UsageError
from .filesystem import Bytes, at_fork_in_child

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD = NONCE_BYTES + TAG_BYTES
SEALED_BYTES_MAX = (1 << 31) - 1  # Of the cipher library, for one call.

_FILE = struct.Struct("<16sQ")
_PLACE = struct.Struct("<BIBII")

_NONCES_PER_REFILL = 256
_nonces: list[bytes] = []
# Two processes must never draw the same nonces from one pool. Random ones, never counters: a counter repeats when a file
# is restored from a backup or a crash takes back an unsynced tail, and a repeated nonce gives GCM's key away.
at_fork_in_child(_nonces.clear)


def new_nonce() -> bytes:
    """96 bits from the operating system, never handed out twice (list.pop is atomic among threads)."""
    try:
        return _nonces.pop()
    except IndexError:
        pool = secrets.token_bytes(NONCE_BYTES * _NONCES_PER_REFILL)
        _nonces.extend([pool[i : i + NONCE_BYTES] for i in range(NONCE_BYTES, len(pool), NONCE_BYTES)])
        return pool[:NONCE_BYTES]


def new_nonces(count: int) -> bytes:
    """`count` nonces, one after another, as `new_nonce` gives them."""
    return secrets.token_bytes(NONCE_BYTES * count)


class FileCipher:
    """Seals and opens the pieces of one file under one key epoch. Safe to use from several threads.

    Made by `Keyring.cipher`. file_id: the file's number; epoch: of the data key that the file's key comes from.
    """

    __slots__ = ("_decrypt", "_encrypt", "_encrypt_into", "_other_epoch", "_others", "_prefix", "database_id", "epoch", "file_id", "key", "native")

    def __init__(self, key: bytes, database_id: bytes, file_id: int, epoch: int, other_epoch: Callable[[int, int], FileCipher] | None = None) -> None:
        """key: 32 bytes for this file and epoch alone; `other_epoch(file_id, epoch)` finds the cipher of another epoch."""
        aead = AESGCM(key)
        self._encrypt = aead.encrypt
        self._encrypt_into = aead.encrypt_into
        self._decrypt = aead.decrypt
        self.key = key
        self.native: object = None  # What the kernels made of it (kernel/aes_gcm_cy.py).
        self._prefix = _FILE.pack(database_id, file_id)
        self._other_epoch = other_epoch
        self._others: dict[int, FileCipher] = {}
        self.database_id = database_id
        self.file_id = file_id
        self.epoch = epoch

    def at(self, epoch: int) -> FileCipher:
        """The cipher of the same file for pieces written under another epoch. KeyUnavailableError if KEYS has it not."""
        if epoch == self.epoch:
            return self
        other = self._others.get(epoch)
        if other is None:
            if self._other_epoch is None:
                raise KeyUnavailableError(f"the cipher of file {self.file_id} knows key epoch {self.epoch} only, not {epoch}")
            other = self._others[epoch] = self._other_epoch(self.file_id, epoch)
        return other

    def of_frame(self, frame_id: int) -> FileCipher:
        """This very key, for the pieces of one frame of the blob file: they are bound to the frame's id, wherever in the file it lies.

        Not to be asked for another epoch: ask this one with `at` first."""
        other = copy(self)
        other.native = None
        other._prefix = _FILE.pack(self.database_id, frame_id)
        return other

    def seal(self, section: int, ordinal: int, codec: int, dictionary: int, plain: Bytes) -> bytes:
        """nonce + ciphertext + tag of `plain`, to be opened only with the same section, ordinal, codec and dictionary.

        UsageError if `plain` is over 2 GiB - 29: the caller cuts what is larger."""
        if len(plain) > SEALED_BYTES_MAX - OVERHEAD:
            raise UsageError(f"{len(plain)} bytes are too many to seal in one piece")
        nonce = new_nonce()
        return nonce + self._encrypt(nonce, plain, self._prefix + _PLACE.pack(section, ordinal, codec, dictionary, self.epoch))

    def seal_into(self, room: memoryview, section: int, ordinal: int, codec: int, dictionary: int, plain: Bytes) -> None:
        """As `seal`, into `room`, which is OVERHEAD longer than `plain`."""
        nonce = new_nonce()
        room[:NONCE_BYTES] = nonce
        place = self._prefix + _PLACE.pack(section, ordinal, codec, dictionary, self.epoch)
        self._encrypt_into(nonce, plain, place, room[NONCE_BYTES:])

    def open(self, section: int, ordinal: int, codec: int, dictionary: int, sealed: Bytes) -> bytes:
        """The plain bytes. ValueError if `sealed` is damaged, of another place, or of another key."""
        if not OVERHEAD <= len(sealed) <= SEALED_BYTES_MAX:
            raise ValueError(f"{len(sealed)} bytes cannot be a sealed piece")
        place = self._prefix + _PLACE.pack(section, ordinal, codec, dictionary, self.epoch)
        try:
            return self._decrypt(bytes(sealed[:NONCE_BYTES]), sealed[NONCE_BYTES:], place)
        except InvalidTag:
            raise ValueError("authentication tag does not match") from None
