"""What the kernels raise for entries that cannot be stored: told apart from whatever a caller's iterable raises itself."""

from __future__ import annotations

from typing import Any

from ...errors import UsageError


class EntryError(UsageError, ValueError):
    """A key, value or batch over its limit."""


class EntryTypeError(UsageError, TypeError):
    """A key or value that is not bytes, or an item that is no pair of them."""


def pair_of(item: Any) -> tuple[Any, Any]:
    """The key and value of an item of put_many or ingest; EntryTypeError if it is no pair."""
    try:
        key, value = item
    except (TypeError, ValueError):
        raise EntryTypeError(f"items are pairs (key, value), not {item!r:.80}") from None
    return key, value


def require_key(key: Any) -> None:
    """EntryTypeError unless it is bytes."""
    if type(key) is not bytes:
        raise EntryTypeError(f"key must be bytes, not {type(key).__name__}")
