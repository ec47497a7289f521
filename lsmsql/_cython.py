"""A stand-in for the `cython` module, so that the `*_cy.py` files run as ordinary Python without Cython.

It covers just what those files use: decorators do nothing, types are callables that return their argument.
Modules that work on C pointers are not run this way; `engine/kernel/plain` stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

compiled = False


def _decorator(*_args: Any, **_kwargs: Any) -> Callable[[Any], Any]:
    return lambda target: target


def _identity(target: Any) -> Any:
    return target


cclass = ccall = cfunc = inline = final = nogil_function = _identity
locals = exceptval = returns = boundscheck = wraparound = cdivision = initializedcheck = _decorator
nogil = nullcontext()
gil = nullcontext()

char = uchar = short = ushort = int = uint = long = ulong = longlong = ulonglong = _identity
Py_ssize_t = size_t = bint = double = float = p_char = p_uchar = object = _identity


def declare(_type: Any = None, value: Any = None, **_names: Any) -> Any:
    """As `cython.declare(type, value)`: the value."""
    return value


def cast(_type: Any, value: Any, **_options: Any) -> Any:
    """As `cython.cast(type, value)`: the value."""
    return value
