# cython: language_level=3, boundscheck=False, wraparound=False
"""Plans that a table has run before, found by their text without making a Python string of it."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import strcmp, strdup
from cython.cimports.lsmsql.bridge.structs import PLANS

_KnownPlanP = cython.typedef(cython.pointer(KnownPlan))


def known_plan(vtab, text):
    place: cython.int = vtab.plan
    number: cython.int
    plan: _KnownPlanP = cython.address(vtab.plans[place])
    if plan.text != cython.NULL and strcmp(plan.text, text) == 0:
        return plan
    for number in range(PLANS):
        plan = cython.address(vtab.plans[number])
        if plan.text != cython.NULL and strcmp(plan.text, text) == 0:
            vtab.plan = number
            return plan
    prepared: object = cython.cast(object, vtab.table).prepared(text.decode())
    copy: cython.p_char = strdup(text)
    if copy == cython.NULL:
        raise MemoryError
    number = vtab.replaced
    vtab.replaced = (number + 1) % PLANS
    plan = cython.address(vtab.plans[number])
    _forget(plan)
    Py_INCREF(prepared)
    plan.text = copy
    plan.prepared = cython.cast(cython.p_void, prepared)
    plan.point = prepared.point
    plan.timed = prepared.timed
    vtab.plan = number
    return plan


@cython.cfunc
@cython.exceptval(check=False)
def _forget(plan: _KnownPlanP) -> cython.void:
    if plan.text != cython.NULL:
        free(plan.text)
        plan.text = cython.NULL
        prepared: object = cython.cast(object, plan.prepared)
        Py_DECREF(prepared)


def plans_free(vtab):
    number: cython.int
    for number in range(PLANS):
        _forget(cython.address(vtab.plans[number]))
