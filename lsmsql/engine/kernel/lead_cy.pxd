# The leads of blocks that are stored in parts (docs/formats.md): which is whose, kept where the parts are decoded, and read again where it is not.
from .frame_cy cimport Lead
from .native cimport SLACK, Data, Room, Tab, u32, u64

cdef bint lead_keep(Lead* lead, u64 serial, u32 number, Data raw, size_t size) noexcept nogil  # False: no memory, or longer than LEAD_BYTES_MAX
cdef void lead_free(Lead* lead) noexcept nogil
cdef int lead_fetch(object source, const Tab* tab, u32 ordinal, Lead* lead) except -1  # where it is wanted: read it
cdef bytes frame_raw(object source, const Tab* tab, u32 ordinal, object frame)  # what a frame holds, decompressed; or the error

cdef inline u32 lead_of(const Tab* tab, u32 ordinal) noexcept nogil:
    """The number of the lead of a block's parts."""
    cdef u32 number = tab.first + ordinal
    return number - number % tab.span

cdef inline bint lead_wanted(const Tab* tab, u32 ordinal, const Lead* lead) noexcept nogil:
    return lead.size == 0 or lead.serial != tab.serial or lead.number != lead_of(tab, ordinal)

cdef bytes _raw_lead(object source, const Tab* tab, u32 ordinal)
