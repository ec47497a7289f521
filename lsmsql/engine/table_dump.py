"""Opening one SSTable to look into it: by its path, with or without its database's key."""

from __future__ import annotations

from pathlib import PurePath

from ..errors import UsageError
from .sstable.dump import BlockLine, Entry, IndexEntry, TableDump
from .sstable.verify import Verified, verify_table
from .storage.filenames import FileKind, file_name, parse_file_name
from .storage.filesystem import FileSystem, OsFileSystem
from .storage.keyring import Key, Keyring

__all__ = ["BlockLine", "Entry", "IndexEntry", "TableDump", "Verified", "open_dump", "verify_table"]


def open_dump(path: str | PurePath, key: Key | None = None, filesystem: FileSystem | None = None) -> TableDump:
    """The SSTable at a path, without asking the manifest, or the lock, about it. Close it afterwards.

    key: opens KEYS, which has to stand beside the table; without it an encrypted table shows what is not encrypted. A name like 000012.sst says
    which file id the table must have. UsageError for a path that leads to no such file; KeyUnavailableError for a wrong key."""
    fs = filesystem or OsFileSystem()
    place = PurePath(path)
    parsed = parse_file_name(place.name)
    if parsed is None or parsed.kind is not FileKind.SSTABLE:
        raise UsageError(f"{path} is not named like an SSTable (000012.sst), and its name is the id it was encrypted for")
    directory = str(place.parent)
    has_keys = fs.exists(fs.join(directory, file_name(FileKind.KEYS)))
    keyring = Keyring.open(fs, directory, key) if has_keys and key is not None else None
    try:
        file = fs.open(str(place))
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"there is no SSTable {path}") from None
    return TableDump(file, keyring.cipher(parsed.number) if keyring else None, "no key was given" if has_keys else "KEYS is not beside it")
