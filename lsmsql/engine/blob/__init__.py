"""The blob store: values too large to be moved by every compaction, out of the sorted tables and found by pointers that never change.

value_store      ValueStore: values by pointers; what the engine calls
pointer          BlobPointer;  value_stream: a value as a file, or a range of it
value_writer     values into frames;  value_frame: a frame's bytes;  frame_reader: values out of frames, repaired
directory_cache  the directories of frames that were read
garbage          which frames to rewrite, and what they are then
frame_store      FrameStore: what frames are kept in
links            what the pointers of a table lead into
slot_map_store   SlotMapStore: on disk, for reading beside the writer
slot_store       SlotStore: on disk, by shadow writes;  memory_store: in a dict
frame_record     FrameRecord: where a frame lies, and changes of the slot map
slot_map_log     the slot map on disk: a snapshot (slot_map_file) and a log
allocator        free units;  retirement: units on their way there
write_plan, preallocation, batch_read  how the data file is written, grown and read
"""

from .frame_store import FrameStore
from .garbage import FrameUsage, frames_below
from .memory_store import MemoryStore
from .pointer import BlobPointer, parse_pointer
from .slot_store import SlotStore, StoreOptions
from .value_store import ValueStore
from .value_stream import ValueStream

__all__ = [
    "BlobPointer",
    "FrameStore",
    "FrameUsage",
    "MemoryStore",
    "SlotStore",
    "StoreOptions",
    "ValueStore",
    "ValueStream",
    "frames_below",
    "parse_pointer",
]
