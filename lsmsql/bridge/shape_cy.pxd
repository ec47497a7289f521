from .structs cimport Shape

cdef int shape_fill(Shape* shape, object table) except -1
cdef void shape_free(Shape* shape) noexcept
