# cython: language_level=3
"""The number of a transaction, written into app.db: what vtab/catalog.py does through APSW, without an object for it, on the shortest way."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.lsmsql.bridge.errors_cy import raise_code
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_ERROR, SQLITE_OK, SQLITE_READONLY, Api, sqlite3_blob

_BlobP = cython.typedef(cython.pointer(sqlite3_blob))
_NUMBER_BYTES = cython.declare(cython.int, 8)


@cython.cclass
class CommitNumber:
    """Of one schema of one connection, for as long as SQLite calls its tables."""

    def write(self, number: cython.ulonglong, committed: cython.ulonglong, written):
        """Write it where one of the numbers `committed` and `written` (None: there is no such) is found. False: something else is there, or there is
        no place for it, and vtab/catalog.py is to find out why. Any other failure is raised: SQLite may have rolled back all of app.db's transaction
        (an interrupt, a full disk), and a second try would commit the number without it."""
        before: cython.longlong = -1 if written is None else written
        done: cython.bint = False
        code: cython.int
        with cython.nogil:
            code = self._write(number, committed, before, cython.address(done))
        if code & 255 not in (SQLITE_OK, SQLITE_ERROR, SQLITE_READONLY):
            raise_code(self.api, self.db, code)
        return done and code == SQLITE_OK

    def _write(self, number, committed, written, done):
        api: Api = self.api
        blob: _BlobP = cython.NULL
        found: cython.uchar[8]
        before: cython.ulonglong = 0
        place: cython.int
        closed: cython.int
        code: cython.int = api.blob_open(self.db, self.name, b"_lsmsql", b"value", 1, 1, cython.address(blob))
        if code == SQLITE_OK and api.blob_bytes(blob) == _NUMBER_BYTES:
            code = api.blob_read(blob, found, _NUMBER_BYTES, 0)
            for place in range(_NUMBER_BYTES):
                before |= cython.cast(cython.ulonglong, found[place]) << (8 * place)
                found[place] = (number >> (8 * place)) & 255
            if code == SQLITE_OK and (before == committed or (written >= 0 and before == cython.cast(cython.ulonglong, written))):
                code = api.blob_write(blob, found, _NUMBER_BYTES, 0)
                done[0] = code == SQLITE_OK
        closed = api.blob_close(blob)
        return code if code else closed


def commit_number(api, db, schema_name):
    new: CommitNumber = CommitNumber.__new__(CommitNumber)
    new.api = api
    new.db = db
    new.schema_name = schema_name
    new.name = schema_name
    return new
