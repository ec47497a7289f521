# cython: language_level=3
"""Pending: the changes of a transaction that are not committed yet, and the cursors that read through them."""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

import apsw

from lsmsql.engine.kernel import KEY_BYTES_MAX, VALUE_BYTES_MAX, Kind
from lsmsql.errors import UsageError

_OPERATION_BYTES = 8  # what each costs beside its key and value
_VALUE = int(Kind.VALUE)


@cython.cclass
class Pending:
    """A write batch of limited size.

    batch: None outside a transaction that writes; bytes_max: of its encoding; serial: changes whenever rows may have gone back to an
    earlier state; views: what lies below the batch.
    """

    batch = cython.declare(object, visibility="readonly")
    bytes_max = cython.declare(cython.longlong, visibility="public")
    serial = cython.declare(cython.longlong, visibility="public")
    _room: cython.longlong
    _engine: object
    _views: object
    _operations: object  # the kernel's batch within
    _readers: set

    def __init__(self, engine, views, bytes_max):
        self._engine = engine
        self._views = views
        self.bytes_max = bytes_max
        self.serial = 0
        self._readers = set()
        self.forget()

    def start(self):
        """An empty batch; open cursors keep the old one."""
        self.batch = self._engine.batch()
        self._operations = self.batch.operations
        self._room = self.bytes_max

    def forget(self):
        self.batch = self._operations = None
        self._room = 0

    def get(self, tree, key):
        """A row as the running change sees it: everything pending included."""
        found = self._operations.get(tree.id, key)
        if found is not None:
            return found[1] if found[0] == _VALUE else None
        return self._views.shared.get(tree, key)

    def put(self, tree, key, value):
        """Add or replace a row. When it raises, nothing has changed."""
        key_bytes: cython.longlong = len(key)
        value_bytes: cython.longlong = len(value)
        if key_bytes > KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
            raise apsw.TooBigError(f"lsm: a key has at most {KEY_BYTES_MAX} bytes and a row {VALUE_BYTES_MAX}; not {key_bytes} and {value_bytes}")
        self._room -= key_bytes + value_bytes + _OPERATION_BYTES
        if self._room < 0:
            self._make_room(key_bytes + value_bytes + _OPERATION_BYTES)
        self._operations.put(tree.id, key, value)

    def delete(self, tree, key):
        """Remove a row; nothing happens if it is not there."""
        self._operations.delete(tree.id, key)

    def _make_room(self, needed):
        """The estimate of free space is used up: look at what the batch really holds."""
        self._room = self.bytes_max - self._operations.size - needed
        if self._room < 0:
            limit = self.bytes_max >> 20
            raise UsageError(f"lsm: transaction too large: more than {limit} MiB of pending changes; commit in smaller parts")

    def place(self):
        """Where the batch ends now, as a mark to go back to."""
        return 0 if self.batch is None else self.batch.mark()

    def roll_back_to(self, place):
        if self.batch is None or self.batch.mark() <= place:
            return
        self.batch.rollback(place)
        self.serial += 1
        for reader in [reader for reader in self._readers if reader.mark > place]:
            reader.abort()

    def add_reader(self, reader):
        """A cursor that reads through the batch: `mark` is where its view of the batch ends, `abort()` stops it."""
        self._readers.add(reader)

    def remove_reader(self, reader):
        self._readers.discard(reader)
