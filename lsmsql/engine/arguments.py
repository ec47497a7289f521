"""Arguments: what callers pass, checked before anything is done. Each raises UsageError that says what to pass instead."""

from __future__ import annotations

from pathlib import PurePath

from ..errors import UsageError

_NUMBER_MAX = (1 << 63) - 1


def require_bound(key: object) -> None:
    """A bound of a range is bytes, or None for an open one. (`bytes(5)` would be five zeros, not an error.)"""
    if key is not None and not isinstance(key, bytes):
        raise UsageError(f"keys are bytes, and a bound of a range is bytes or None, not {type(key).__name__}")


def require_items(items: object) -> None:
    """Something to iterate over; what it yields is checked when it is taken."""
    if not hasattr(items, "__iter__") and not hasattr(items, "__getitem__"):
        raise UsageError(f"an iterable is asked for, not {type(items).__name__}")


def require_number(what: str, number: object) -> None:
    """A count, or a seqno."""
    if not isinstance(number, int):
        raise UsageError(f"{what} is an int, not {type(number).__name__}")
    if not 0 <= number <= _NUMBER_MAX:
        raise UsageError(f"{what} cannot be {number}")


def require_name(name: object) -> None:
    """The name of a tree or snapshot."""
    if not isinstance(name, str):
        raise UsageError(f"a name is a str, not {type(name).__name__}")


def require_path(path: object) -> None:
    """A path that a file system can take."""
    if not isinstance(path, (str, PurePath)):
        raise UsageError(f"a path is a str or pathlib.Path, not {type(path).__name__}")
    if "\0" in str(path):
        raise UsageError(f"a path cannot hold a null character: {str(path)!r}")
    try:
        str(path).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(f"the path is not valid Unicode: {str(path)!r}") from None


def require_tree_of(database: object, tree: object) -> None:
    """A tree of this database."""
    if getattr(tree, "database", None) is not database and not of_one_directory(tree, database):
        if hasattr(tree, "database"):
            raise UsageError(f"{tree!r} belongs to another database")
        raise UsageError(f"a tree is what database.tree(name) gives, not {type(tree).__name__}")


def require_batch_of(database: object, batch: object, mark: object = None) -> None:
    """A write batch of this database, and one of its marks if any."""
    ours = getattr(batch, "database", None) is database or of_one_directory(batch, database)
    if not ours or not hasattr(batch, "operations"):
        if hasattr(batch, "operations"):
            raise UsageError("the batch belongs to another database")
        raise UsageError(f"a batch is what database.batch() gives, not {type(batch).__name__}")
    if mark is not None:
        require_number("mark", mark)


def of_one_directory(thing: object, database: object) -> bool:
    """Whether something was made by this database, or by another one that shares its open directory."""
    instance = getattr(getattr(thing, "database", None), "instance", None)
    return instance is not None and instance is getattr(database, "instance", None)
