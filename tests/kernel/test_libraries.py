"""The C functions taken from the wheels, and the Python functions that stand in for them: the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import xxhash

from .stream_world import compiled, needs_compiled

PROGRAM = """
import random
from lsmsql.engine.kernel import libraries_cy
libraries_cy.bind({direct})
from tests.kernel.stream_world import compiled, make_tables, make_world, drain, SETTINGS
from tests.storage.dictionary_world import json_dictionary, json_rows
world = make_world(compiled(), 5, cache_bytes=2000)
levels = compiled().Levels(world.levels)
keys = sorted(world.versions)
digest = libraries_cy.xxh3_128(repr(compiled().get_many(world.memtables, levels, keys, world.last)).encode())
for source in [*world.memtables, *(table for level in world.levels for table in level)]:
    for level in (0, 1, 7):
        for chunk in drain(compiled().TableStream([source], **{{**SETTINGS, "compression_level": level, "block_bytes": 3000}}))[0]:
            digest ^= libraries_cy.xxh3_128(chunk.frames + repr(chunk.table).encode())
learned = {{"compression_level": 3, "block_bytes": 3000, "dictionary": json_dictionary()}}
(made,) = make_tables(compiled(), [compiled().SortedRows(json_rows(300))], **learned)
assert len(list(compiled().Scan([], compiled().Levels([[made.open(compiled(), compiled().BlockCache(0))]]), None, None, 1 << 50))) == 300
digest ^= libraries_cy.xxh3_128(made.frames)
parted = {{"compression_level": 3, "block_bytes": 500, "block_parts": 4}}
(made,) = make_tables(compiled(), [compiled().SortedRows(json_rows(300))], **parted)
assert len(list(compiled().Scan([], compiled().Levels([[made.open(compiled(), compiled().BlockCache(0))]]), None, None, 1 << 50))) == 300
digest ^= libraries_cy.xxh3_128(made.frames)
print(libraries_cy.DIRECT, digest)
"""


@needs_compiled
def test_the_libraries_of_this_installation_export_what_the_kernels_call() -> None:
    from lsmsql.engine.kernel import libraries_cy

    assert libraries_cy.DIRECT == {"xxhash": True, "zstandard": True}


@needs_compiled
def test_hashes_are_the_library_s() -> None:
    from lsmsql.engine.kernel import libraries_cy

    rng = random.Random(1)
    for size in (0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1000, 70_000):
        data = rng.randbytes(size)
        assert libraries_cy.xxh3_64(data) == xxhash.xxh3_64_intdigest(data)
        assert libraries_cy.xxh3_128(data) == xxhash.xxh3_128_intdigest(data)


@needs_compiled
def test_the_stand_ins_make_the_same_bytes() -> None:
    # In processes of their own: contexts made by one library cannot be used by the other.
    assert compiled() is not None
    outputs = []
    for direct in (True, False):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(direct=direct)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": "."},
            timeout=120,
        )
        outputs.append(run.stdout.splitlines()[-1])
    assert outputs[0].startswith("{'xxhash': True, 'zstandard': True}")
    assert outputs[1].startswith("{'xxhash': False, 'zstandard': False}")
    assert outputs[0].split()[-1] == outputs[1].split()[-1]
