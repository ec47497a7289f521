"""Statistics: what the engine has done since it was opened, and what it holds now."""

from __future__ import annotations

from .blobs import ReadBlobs
from .commit import CommitLine
from .follower import Follower
from .kernel import COMPILED, BlockCache
from .manifest.version import LEVELS
from .pins import Pins
from .read_state import Published
from .upkeep import Upkeep
from .version_line import VersionLine

Statistics = dict[str, int | float | str]


def gather(line: VersionLine, commits: CommitLine, upkeep: Upkeep, pins: Pins) -> Statistics:
    """Of a Database. A new dict; the keys are the same every time. Bytes and counts are integers, times seconds."""
    return {
        **_of_moment(line.published, encrypted=line.keyring is not None, pins=len(pins)),
        "wal_bytes_written": commits.bytes_written,
        "commits": commits.commits,
        "commit_groups": commits.groups,
        "slowdowns": commits.pressure.pace.count,
        "slowdown_seconds": commits.pressure.pace.seconds,
        "stops": commits.pressure.stops,
        "flushes": upkeep.flushes,
        "flushed_bytes": upkeep.flushed_bytes,
        "compactions": upkeep.compactions,
        "moves": upkeep.moves,
        "compacted_bytes_read": upkeep.compacted_bytes_read,
        "compacted_bytes_written": upkeep.compacted_bytes_written,
        "trained_dictionaries": upkeep.dictionaries.trained,
        "adopted_dictionaries": upkeep.dictionaries.adopted,
        **_of_cache(line.cache),
        **_of_blobs(line.blobs),
        "blob_value_bytes": line.blobs.live_value_bytes(),
        "blob_relocations": line.blobs.statistics().relocations,
        "blob_relocated_bytes": line.blobs.relocated_bytes,
        "repaired_blocks": line.repairs.count,
        "obsolete_files": line.obsolete.waiting,
        "removed_files": line.obsolete.removed,
        "files_without_copy_on_write": line.fs.without_copy_on_write,
        "error": repr(upkeep.error) if upkeep.error else "",
    }


def gather_reader(follower: Follower) -> Statistics:
    """Of a ReadOnlyDatabase, likewise; of the moment that it shows."""
    return {
        **_of_moment(follower.published, encrypted=follower.keyring is not None, pins=len(follower.moments)),
        "refreshes": follower.refreshes,
        "opened_tables": follower.opened,
        **_of_blobs(follower.blobs.newest),
        **_of_cache(follower.cache),
        "repaired_blocks": follower.repairs.count,
    }


def _of_moment(published: Published, *, encrypted: bool, pins: int) -> Statistics:
    state = published.state
    version = state.version
    generations = state.generations
    result: Statistics = {
        "kernels": "compiled" if COMPILED else "plain",
        "encrypted": int(encrypted),
        "seqno": published.seqno,
        "floor": version.floor,
        "trees": len(version.trees),
        "snapshots": len(version.snapshots),
        "pins": pins,
        "edit": version.number,
        "tables": sum(1 for _ in version.tables()),
        "table_bytes": sum(table.size for table in version.tables()),
        "table_entries": sum(table.entries for table in version.tables()),
        "table_tombstones": sum(table.tombstones for table in version.tables()),
    }
    learned = [table.source.dictionary for table in state.live.tables.values() if table.source.dictionary is not None]
    result |= {"dictionaries": len(set(learned)), "dictionary_tables": len(learned)}
    for number in range(LEVELS):
        tables = [table for levels in version.levels.values() for table in levels[number]]
        result[f"level_{number}_tables"] = len(tables)
        result[f"level_{number}_bytes"] = sum(table.size for table in tables)
    result |= {
        "generations": len(generations),
        "memtable_bytes": sum(generation.arena.size for generation in generations),
        "memtable_entries": sum(generation.arena.entries for generation in generations),
        "wal_bytes": sum(generation.wal.length for generation in generations),
    }
    return result


def _of_blobs(blobs: ReadBlobs) -> Statistics:
    found = blobs.statistics()
    return {
        "blob_frames": found.frames,
        "blob_live_bytes": found.live_bytes,
        "blob_waiting_bytes": found.waiting_bytes,
        "blob_free_bytes": found.free_bytes,
        "blob_file_bytes": found.file_bytes,
        "blob_reads": blobs.shared.reads,
    }


def _of_cache(cache: BlockCache) -> Statistics:
    return {
        "cache_bytes": cache.used,
        "cache_capacity": cache.capacity,
        "cache_hits": cache.hits,
        "cache_misses": cache.misses,
        "cache_evictions": cache.evictions,
        "index_partition_reads": cache.index_reads,
        "filter_partition_reads": cache.filter_reads,
        "prefix_skips": cache.prefix_skips,
    }
