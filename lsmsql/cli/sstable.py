"""lsmsql sstable: look into one SSTable, also a damaged one, and an encrypted one without its key."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from itertools import islice
from os import environ
from typing import Any

from ..engine.kernel.kinds import DUPLICATES, Kind
from ..engine.table_dump import TableDump, open_dump, verify_table
from ..errors import UsageError
from ..vtab.session import KEY_VARIABLE

VALUE_SHOWN = 60  # bytes of a value, unless it is asked for whole


def add_to(commands: Any) -> None:
    """Add the command, with a command of its own for each thing that can be shown."""
    group = commands.add_parser("sstable", help="look into one SSTable, damaged or not", description=__doc__)
    shows = group.add_subparsers(dest="show", required=True, metavar="WHAT")
    for name, (show, what) in SHOWS.items():
        command = shows.add_parser(name, help=what, description=what)
        command.add_argument("file", help="the SSTable, app.db-lsm/000012.sst; KEYS has to stand beside it if it is encrypted")
        command.add_argument("--key", help="passphrase (default: the environment's LSMSQL_KEY)")
        command.set_defaults(run=run, shower=show)
        if name == "entries":
            command.add_argument("--block", type=int, help="of this block only")
            command.add_argument("--limit", type=int, help="at most so many")
            command.add_argument("--whole", action="store_true", help=f"whole values, not only their first {VALUE_SHOWN} bytes")
        if name == "hex":
            command.add_argument("block", type=int, help="the block's number, from 0")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when everything that was read is whole, 1 when something had to be repaired or could not be shown."""
    dump = open_dump(options.file, key_given(options))
    try:
        options.shower(dump, options)
    except IndexError as error:
        raise UsageError(str(error)) from None
    finally:
        dump.close()
    for damaged in dump.damage:
        print(f"lsmsql sstable: {damaged}", file=sys.stderr)
    for _, offset in dump.repairs.places:
        print(f"lsmsql sstable: {dump.path} at byte {offset}: damaged, and read by its parity or its mirror", file=sys.stderr)
    return 1 if dump.damage or dump.repairs.places else 0


def key_given(options: argparse.Namespace) -> str | None:
    """The passphrase, from the command line or the environment."""
    return options.key or environ.get(KEY_VARIABLE)


def show_properties(dump: TableDump, options: argparse.Namespace) -> None:
    """One line for each; texts of several lines are indented."""
    properties = dump.properties()
    for field in fields(properties):
        value = getattr(properties, field.name)
        if field.name == "database_id":
            value = value.hex()
        if isinstance(value, str) and "\n" in value:
            value = "".join(f"\n    {line}" for line in value.splitlines())
        print(f"{field.name}: {value}")


def show_contents(dump: TableDump, options: argparse.Namespace) -> None:
    contents = dump.contents()
    print(f"file {contents.file_id} of database {contents.database_id.hex()}, {dump.size} bytes")
    states = {(section.type, section.copy): state for section, state in dump.sections()}
    for section in contents.sections:
        state = states.get((section.type, section.copy), "")
        name = f"{section.type.name.lower()} {section.copy}"
        print(f"{name:<24} at {section.offset:>12} {section.size:>12} bytes {section.frames:>9} frames  {state}".rstrip())


def show_index(dump: TableDump, options: argparse.Namespace) -> None:
    for number, entry in enumerate(dump.index()):
        place = f"{number:>7} at {entry.offset:>12} {entry.size:>9} bytes {entry.entries:>7} entries"
        print(f"{place}  seqnos {entry.min_seqno} to {entry.max_seqno}  {_mask(entry.kind_mask)}  {entry.last_key!r}")


def show_blocks(dump: TableDump, options: argparse.Namespace) -> None:
    for line in dump.blocks():
        header, number = line.header, line.number if line.number >= 0 else "?"
        about = f"raw {header.raw_length:>9} codec {header.codec} flags {header.flags} epoch {header.epoch}" if header else ""
        about += f" dictionary {header.dictionary:#010x}" if header and header.dictionary else ""
        print(f"{number:>7} at {line.offset:>12} {line.size:>9} bytes  {about}  {line.state}")


def show_entries(dump: TableDump, options: argparse.Namespace) -> None:
    found = dump.entries() if options.block is None else dump.block(options.block)
    for entry in islice(found, options.limit):
        value = entry.value if options.whole or len(entry.value) <= VALUE_SHOWN else entry.value[:VALUE_SHOWN]
        rest = f" and {len(entry.value) - len(value)} bytes more" if len(value) < len(entry.value) else ""
        print(f"{entry.block:>7} {entry.key!r} {entry.seqno} {Kind(entry.kind).name.lower()} {value!r}{rest}")


def show_hex(dump: TableDump, options: argparse.Namespace) -> None:
    """The block's header, field by field, and its bytes."""
    line, data = dump.stored(options.block)
    print(f"block {line.number} at {line.offset}, {line.size} bytes, parity {line.parity}: {line.state}")
    for name, value in line.header._asdict().items() if line.header else ():
        print(f"  {name}: {value.hex() if isinstance(value, bytes) else value}")
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        print(f"{line.offset + start:08x}  {row.hex(' '):<47}  {''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in row)}")


def show_filter(dump: TableDump, options: argparse.Namespace) -> None:
    found = dump.filter()
    if found is None:
        print("none")
        return
    print(f"{found.kind.name.lower()} filter over {found.keys} keys, {found.size} bytes, {found.bits_per_key:.2f} bits a key")
    for name, value in found.shape.items():
        print(f"  {name}: {value:.4f}" if isinstance(value, float) else f"  {name}: {value}")
    print(f"  false positives: {found.false_positives} of {found.asked} ({found.false_positives / found.asked:.3%})")


def show_ranges(dump: TableDump, options: argparse.Namespace) -> None:
    for start, end, seqnos in dump.range_tombstones():
        print(f"{start!r} to {end!r} at {', '.join(map(str, seqnos))}")


def show_blobs(dump: TableDump, options: argparse.Namespace) -> None:
    for file in dump.blob_files():
        print(f"blob file {file.file_id}: {file.values} values, {file.raw_bytes} bytes, {file.stored_bytes} stored")


def show_verified(dump: TableDump, options: argparse.Namespace) -> None:
    found = verify_table(dump)
    dump.damage, dump.repairs.places = found.problems, {}
    print(f"{found.blocks} blocks, {found.entries} entries, {found.checked} of them with checksums of their own: {len(found.problems)} problems")


def _mask(mask: int) -> str:
    names = [kind.name.lower() for kind in Kind if mask & 1 << kind]
    return ",".join(names + (["several versions of a key"] if mask & DUPLICATES else []))


SHOWS = {
    "properties": (show_properties, "what the table says of itself"),
    "contents": (show_contents, "the table of contents: which sections, where, and whether they are whole (needs no key)"),
    "index": (show_index, "the blocks as the index describes them"),
    "blocks": (show_blocks, "every block's header, and whether it is whole (needs no key)"),
    "entries": (show_entries, "every version of every key"),
    "verify": (show_verified, "every checksum, and whether all parts agree"),
    "hex": (show_hex, "one block's header and bytes as they are in the file (needs no key)"),
    "ranges": (show_ranges, "the range tombstones, in fragments"),
    "blobs": (show_blobs, "the blob files that the table points into"),
    "filter": (show_filter, "what the filter is made of, and how often it errs"),
}
