"""The codecs as plain Python, under the Cython stand-in, give the same bytes and values as the modules in use (compiled or not)."""

from __future__ import annotations

import random
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

import lsmsql
from lsmsql import _cython
from lsmsql.vtab import key_codec_cy, row_codec_cy

from .generator import BLOBS, INTS, NUMERIC_TEXTS, REALS, TEXTS

VALUES: list[object] = [
    None,
    *INTS,
    *REALS,
    *TEXTS,
    *NUMERIC_TEXTS,
    *BLOBS,
    "a\0b",
    "\0",
    b"a\0\xff",
    "x" * 200,
    b"y" * 70000,
    2**23,
    -(2**31),
    2**47,
]


def load_plain(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "cython", _cython)
    path = Path(lsmsql.__file__).parent / "vtab" / f"{name}.py"
    loader = SourceFileLoader(f"plain_{name}", str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_keys_and_rows_are_the_same_bytes_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_keys, plain_rows = load_plain("key_codec_cy", monkeypatch), load_plain("row_codec_cy", monkeypatch)
    source = random.Random(11)
    for _ in range(3000):
        parts = [(source.randrange(3), source.random() < 0.5, source.random() < 0.3) for _ in range(3)]
        key_values = [float(v) if real and isinstance(v, int) else v for v, (_, _, real) in zip(source.choices(VALUES, k=3), parts, strict=True)]
        keys, twin = key_codec_cy.KeyCodec(parts), plain_keys.KeyCodec(parts)
        key = keys.encode(key_values)
        assert twin.encode(key_values) == key
        assert repr(twin.decode(key, 3)) == repr(keys.decode(key, 3))
        assert [twin.split(key, n) for n in range(4)] == [keys.split(key, n) for n in range(4)]
        row = [*source.choices(VALUES, k=4)]
        row[1], row[3] = key_values[0], key_values[2]
        places = (-1, 0, -1, 2)
        codec, plain_codec = row_codec_cy.RowCodec(4, places, keys, -1), plain_rows.RowCodec(4, places, twin, -1)
        value = codec.encode(row)
        assert plain_codec.encode(row) == value
        used = {n for n in range(7) if source.random() < 0.6}
        decoder, plain = row_codec_cy.RowDecoder(codec, used, [None] * 4), plain_rows.RowDecoder(plain_codec, used, [None] * 4)
        assert repr(plain.rows([key], [value], [9])) == repr(decoder.rows([key], [value], [9]))
        assert repr(plain.row(key, value)) == repr(decoder.row(key, value))
