"""KEYS: the data keys of an encrypted database, wrapped under what the user knows (docs/formats.md, "KEYS").

The file is two identical copies of 4096 bytes, each in a sector of its own, each a plain block frame of type KEYS:

    0 u16 version (1)   2 u8 derivation (0 a 32-byte key, 1 scrypt)   3 u8 scrypt log2(n)   4 u32 scrypt r   8 u32 scrypt p
    12 u32 epochs   16 16B database id   32 32B salt   64 epochs * (u32 epoch, 60B wrapped data key)   then zeros

A wrapped data key is nonce + AES-256-GCM ciphertext + tag under the key-encryption key; associated data: bytes 0..12 and
16..64 and the epoch. The file is replaced whole, so both copies are of one moment.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ...errors import CorruptionError, KeyUnavailableError, UsageError
from .block_frame import HEADER_BYTES, FrameType, open_frame, seal_frame
from .encryption import KEY_BYTES, NONCE_BYTES, OVERHEAD, FileCipher, new_nonce
from .filenames import FileKind, file_name
from .filesystem import FileSystem, replace_file

SECTOR_BYTES = 4096
DATABASE_ID_BYTES = 16

_VERSION = 1
_SALT_BYTES = 32
_RAW_KEY, _SCRYPT = 0, 1
_RAW_BYTES = SECTOR_BYTES - HEADER_BYTES
_FIXED = struct.Struct("<HBBIII16s32s")
_EPOCH = struct.Struct("<I60s")
_EPOCHS_MAX = (_RAW_BYTES - _FIXED.size) // _EPOCH.size
_EPOCH_MAX = (1 << 16) - 1  # A block frame has 16 bits for it.
_SCRYPT_BYTES_MAX = 256 << 20

Key = str | bytes | bytearray
"""A passphrase, or exactly 32 random bytes."""


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What one guess at a passphrase costs: 128 * n * r bytes of memory, touched p times. n is a power of two."""

    n: int = 1 << 15
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not (2 <= self.n <= 1 << 21 and self.n & (self.n - 1) == 0 and self.r >= 1 and 1 <= self.p <= 16):
            raise UsageError(f"impossible scrypt cost n={self.n} r={self.r} p={self.p}")
        if 128 * self.n * self.r > _SCRYPT_BYTES_MAX:
            raise UsageError(f"scrypt cost n={self.n} r={self.r} needs more than {_SCRYPT_BYTES_MAX} bytes")


@dataclass(frozen=True, slots=True)
class _Derivation:
    """How the key-encryption key comes from the user's key, and whose keys these are: what binds a wrapped key."""

    method: int
    cost: ScryptCost
    database_id: bytes
    salt: bytes

    @classmethod
    def new(cls, key: Key, database_id: bytes, cost: ScryptCost) -> _Derivation:
        return cls(_SCRYPT if isinstance(key, str) else _RAW_KEY, cost, database_id, secrets.token_bytes(_SALT_BYTES))

    def pack(self, epochs: int) -> bytes:
        cost = self.cost
        return _FIXED.pack(_VERSION, self.method, cost.n.bit_length() - 1, cost.r, cost.p, epochs, self.database_id, self.salt)

    def associated_data(self, epoch: int) -> bytes:
        fixed = self.pack(0)
        return fixed[:12] + fixed[16:] + epoch.to_bytes(4, "little")

    def key_encryption_key(self, key: Key) -> bytes:
        """32 bytes. KeyUnavailableError if `key` is not of the sort that the database was encrypted with."""
        if isinstance(key, str) is not (self.method == _SCRYPT):
            wanted = "a passphrase" if self.method == _SCRYPT else "a key of 32 bytes"
            raise KeyUnavailableError(f"the database was encrypted with {wanted}")
        if isinstance(key, str):
            cost = self.cost
            return Scrypt(salt=self.salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive(key.encode("utf-8"))
        return _derive(bytes(key), self.salt, b"lsmsql key-encryption key")


class Keyring:
    """The open data keys of one database. A value: `rotate` returns a new one.

    database_id: 16 random bytes; epoch: the one to write with; damaged_copies: of the file, when it was read (0 or 1,
    counted from the start of the file): empty, or one, which `repair_copies` mends.
    """

    def __init__(self, database_id: bytes, data_keys: Mapping[int, bytes], damaged_copies: tuple[int, ...] = ()) -> None:
        self.database_id = database_id
        self.epoch = max(data_keys)
        self.damaged_copies = damaged_copies
        self._data_keys = dict(data_keys)

    @classmethod
    def create(cls, fs: FileSystem, directory: str, key: Key, *, database_id: bytes | None = None, cost: ScryptCost | None = None) -> Keyring:
        """Make KEYS, durably, with one new data key (epoch 1). UsageError if there is one: it may be all that opens a database."""
        _check_key(key)
        path = fs.join(directory, file_name(FileKind.KEYS))
        if fs.exists(path):
            raise UsageError(f"{path} exists already")
        if database_id is not None and len(database_id) != DATABASE_ID_BYTES:
            raise UsageError(f"a database id is {DATABASE_ID_BYTES} bytes, not {len(database_id)}")
        keyring = cls(database_id or secrets.token_bytes(DATABASE_ID_BYTES), {1: secrets.token_bytes(KEY_BYTES)})
        keyring._write(fs, directory, key, cost or ScryptCost())
        return keyring

    @classmethod
    def open(cls, fs: FileSystem, directory: str, key: Key | None) -> Keyring:
        """Read KEYS. KeyUnavailableError if it is missing, or `key` is None or does not open it; CorruptionError if both
        copies are damaged. One damaged copy is told by `damaged_copies`."""
        path = fs.join(directory, file_name(FileKind.KEYS))
        try:
            data = fs.read(path)
        except FileNotFoundError:
            raise KeyUnavailableError(f"{path} is missing: without it nothing in the database can be read") from None
        if key is None:
            raise KeyUnavailableError(f"{path}: the database is encrypted, and no key was given")
        _check_key(key)
        derivation, wrapped, damaged = _read_copies(path, data)
        unwrap = AESGCM(derivation.key_encryption_key(key)).decrypt
        try:
            data_keys = {
                epoch: unwrap(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], derivation.associated_data(epoch)) for epoch, sealed in wrapped.items()
            }
        except InvalidTag:
            raise KeyUnavailableError(f"{path}: the key given does not open the database") from None
        return cls(derivation.database_id, data_keys, damaged)

    def rotate(self, fs: FileSystem, directory: str, key: Key, *, cost: ScryptCost | None = None) -> Keyring:
        """Wrap every data key under `key` and add a new one for all that is written from now on.

        The new epoch is durable when this returns, so before its first use. Until then the old KEYS holds, with the old key."""
        _check_key(key)
        if self.epoch >= _EPOCH_MAX or len(self._data_keys) >= _EPOCHS_MAX:
            raise UsageError(f"KEYS holds {len(self._data_keys)} keys up to epoch {self.epoch} and takes no more")
        keyring = Keyring(self.database_id, {**self._data_keys, self.epoch + 1: secrets.token_bytes(KEY_BYTES)})
        keyring._write(fs, directory, key, cost or ScryptCost())
        return keyring

    def _write(self, fs: FileSystem, directory: str, key: Key, cost: ScryptCost) -> None:
        derivation = _Derivation.new(key, self.database_id, cost)
        wrap = AESGCM(derivation.key_encryption_key(key)).encrypt
        parts = [derivation.pack(len(self._data_keys))]
        for epoch, data_key in sorted(self._data_keys.items()):
            nonce = new_nonce()
            parts.append(_EPOCH.pack(epoch, nonce + wrap(nonce, data_key, derivation.associated_data(epoch))))
        copy = seal_frame(FrameType.KEYS, b"".join(parts).ljust(_RAW_BYTES, b"\0"))
        replace_file(fs, directory, file_name(FileKind.KEYS), copy * 2)

    def cipher(self, file_id: int, epoch: int | None = None) -> FileCipher:
        """The cipher of one file, for writing (the newest epoch) or under the epoch it was written with.

        KeyUnavailableError if that epoch is not here."""
        number = self.epoch if epoch is None else epoch
        data_key = self._data_keys.get(number)
        if data_key is None:
            raise KeyUnavailableError(f"key epoch {number} is not in KEYS")
        key = _derive(data_key, self.database_id, b"lsmsql file " + file_id.to_bytes(8, "little"))
        return FileCipher(key, self.database_id, file_id, number, self.cipher)


def repair_copies(fs: FileSystem, directory: str) -> None:
    """Where one copy in KEYS is damaged, replace the file by two of the other. It needs no key. CorruptionError if both are damaged."""
    path = fs.join(directory, file_name(FileKind.KEYS))
    data = fs.read(path)
    _, _, damaged = _read_copies(path, data)
    if damaged:
        intact = SECTOR_BYTES * (1 - damaged[0])
        replace_file(fs, directory, file_name(FileKind.KEYS), data[intact : intact + SECTOR_BYTES] * 2)


def _check_key(key: Key) -> None:
    if isinstance(key, str):
        try:
            if key.encode("utf-8"):
                return
        except UnicodeEncodeError:
            raise UsageError("the passphrase is not valid Unicode") from None
        raise UsageError("the passphrase is empty")
    if not isinstance(key, (bytes, bytearray)) or len(key) != KEY_BYTES:
        raise UsageError(f"a key is a passphrase (str) or exactly {KEY_BYTES} bytes")


def _derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(key)


def _read_copies(path: str, data: bytes) -> tuple[_Derivation, dict[int, bytes], tuple[int, ...]]:
    """The content of the first intact copy, and which copies are damaged."""
    intact: dict[bytes, tuple[_Derivation, dict[int, bytes]]] = {}
    damage: dict[int, CorruptionError] = {}
    for number in (0, 1):
        offset = number * SECTOR_BYTES
        copy = data[offset : offset + SECTOR_BYTES]
        try:
            raw = open_frame(path, offset, copy, FrameType.KEYS)
            intact[raw] = _parse(path, offset + HEADER_BYTES, raw)
        except CorruptionError as error:
            damage[number] = error
    if not intact:
        raise damage[0]
    if len(intact) > 1:
        raise CorruptionError(path, None, "the two copies are of different moments", "restore KEYS from a backup")
    derivation, wrapped = next(iter(intact.values()))
    return derivation, wrapped, tuple(damage)


def _parse(path: str, offset: int, raw: bytes) -> tuple[_Derivation, dict[int, bytes]]:
    """The fields of one copy whose frame is intact; every number is bounded before it is used."""
    if len(raw) != _RAW_BYTES:
        raise CorruptionError(path, offset, f"a copy of KEYS holds {len(raw)} bytes instead of {_RAW_BYTES}")
    version, method, log2_n, r, p, epochs, database_id, salt = _FIXED.unpack_from(raw)
    if version != _VERSION or method not in (_RAW_KEY, _SCRYPT):
        raise CorruptionError(path, offset, f"KEYS version {version}, derivation {method} are unknown", "a newer version may have written it")
    if not 1 <= epochs <= _EPOCHS_MAX or log2_n > 64:
        raise CorruptionError(path, offset, f"KEYS cannot hold {epochs} epochs or a scrypt cost of 2^{log2_n}")
    try:
        cost = ScryptCost(1 << log2_n, r, p)
    except UsageError as error:
        raise CorruptionError(path, offset, str(error)) from None
    end = _FIXED.size + epochs * _EPOCH.size
    wrapped = dict(_EPOCH.iter_unpack(raw[_FIXED.size : end]))
    if len(wrapped) != epochs or not all(1 <= epoch <= _EPOCH_MAX for epoch in wrapped) or any(raw[end:]):
        raise CorruptionError(path, offset, "KEYS has impossible epochs")
    return _Derivation(method, cost, database_id, salt), wrapped


assert _EPOCH.size == 4 + OVERHEAD + KEY_BYTES
