from .structs cimport KnownPlan, Vtab

# The plan of a text, prepared; the pointer is good until the next call for the same table.
cdef KnownPlan* known_plan(Vtab* vtab, const char* text) except NULL
cdef void plans_free(Vtab* vtab) noexcept
