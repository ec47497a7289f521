"""Make the golden databases anew: python -m tests.golden.make

Only where a format has changed on purpose. Until version 1.0 such a database replaces the one before, as its format version is refused from then on;
afterwards the old ones stay, and new ones get other names.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .databases import DATABASES, PLACE, TABLES, made, made_by_sql, made_table, pack


def main() -> None:
    """Write every archive."""
    archives = {name: made(name) for name in DATABASES} | {name: made_table(name) for name in TABLES}
    with tempfile.TemporaryDirectory() as directory:
        archives["sql"] = made_by_sql(Path(directory))
    for name, files in archives.items():
        data = pack(files)
        (PLACE / f"{name}.zip").write_bytes(data)
        print(f"{name}: {len(data)} bytes, {len(files)} files")


if __name__ == "__main__":
    main()
