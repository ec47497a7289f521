"""What to do about a manifest that cannot be read."""

from __future__ import annotations

REBUILD = "restore the directory from a backup, or rebuild its manifest from its tables and WALs: lsmsql repair --rebuild"
RECOVERY = "options.recovery chooses what to do about a damaged event log"
