"""The bridge: the `lsm` module as SQLite callbacks in compiled code, loaded into a connection as an extension.

Planning, schema, transactions and changes are those of `vtab`; what SQLite calls for each row is done here without Python objects. Where the
bridge was not built, `vtab.module` registers the same tables through APSW.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from .._compiled import bridge_module

if TYPE_CHECKING:
    from ..vtab.module import Module


def load(connection: apsw.Connection, module: Module) -> bool:
    """Register `lsm` in a connection; False where that takes APSW's way: the bridge was not built, or is not wanted, or cannot be loaded."""
    bridge: Any = bridge_module()
    if bridge is None or not hasattr(connection, "load_extension"):
        return False
    allowed = connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, -1)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1)
    try:
        with bridge.expecting(connection, module):
            connection.load_extension(bridge.__file__, bridge.ENTRY)
    finally:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, allowed)
    return True
