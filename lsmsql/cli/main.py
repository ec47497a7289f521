"""lsmsql: the command. Exit codes: 0 all is well, 1 something is wrong or was not done (said on stderr), 2 the arguments make no sense."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import apsw

from ..errors import Error
from . import manifest, repair, sstable


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    top = argparse.ArgumentParser(prog="lsmsql", description="Look after SQLite databases with lsm tables.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    manifest.add_to(commands)
    repair.add_to(commands)
    sstable.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (Error, apsw.Error, OSError) as error:
        print(f"lsmsql {options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
