"""Builds the compiled kernels, and goes on without them where there is no compiler.

LSMSQL_REQUIRE_COMPILED=1 makes a kernel that cannot be compiled an error; LSMSQL_PURE=1 compiles nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED_MODULES = (
    "lsmsql.bridge.cursor_cy",
    "lsmsql.bridge.entry_cy",
    "lsmsql.bridge.errors_cy",
    "lsmsql.bridge.index_info_cy",
    "lsmsql.bridge.key_cy",
    "lsmsql.bridge.lookup_cy",
    "lsmsql.bridge.number_cy",
    "lsmsql.bridge.plan_cy",
    "lsmsql.bridge.row_cy",
    "lsmsql.bridge.row_writer_cy",
    "lsmsql.bridge.scan_cy",
    "lsmsql.bridge.shape_cy",
    "lsmsql.bridge.table_cy",
    "lsmsql.bridge.update_cy",
    "lsmsql.bridge.utf8_cy",
    "lsmsql.bridge.values_cy",
    "lsmsql.engine.kernel.aes_gcm_cy",
    "lsmsql.engine.kernel.arena_cy",
    "lsmsql.engine.kernel.block_cy",
    "lsmsql.engine.kernel.block_decode_cy",
    "lsmsql.engine.kernel.block_encode_cy",
    "lsmsql.engine.kernel.block_rows_cy",
    "lsmsql.engine.kernel.block_rows_encode_cy",
    "lsmsql.engine.kernel.bloom_cy",
    "lsmsql.engine.kernel.burr_cy",
    "lsmsql.engine.kernel.cache_cy",
    "lsmsql.engine.kernel.checksums_cy",
    "lsmsql.engine.kernel.cursor_cy",
    "lsmsql.engine.kernel.feed_cy",
    "lsmsql.engine.kernel.filter_cy",
    "lsmsql.engine.kernel.frame_cy",
    "lsmsql.engine.kernel.index_cy",
    "lsmsql.engine.kernel.lead_cy",
    "lsmsql.engine.kernel.levels_cy",
    "lsmsql.engine.kernel.libraries_cy",
    "lsmsql.engine.kernel.lookup_cy",
    "lsmsql.engine.kernel.memtable_cy",
    "lsmsql.engine.kernel.mend_cy",
    "lsmsql.engine.kernel.merge_cy",
    "lsmsql.engine.kernel.open_table_cy",
    "lsmsql.engine.kernel.operations_cy",
    "lsmsql.engine.kernel.order_cy",
    "lsmsql.engine.kernel.parts_cy",
    "lsmsql.engine.kernel.record_cy",
    "lsmsql.engine.kernel.scan_cy",
    "lsmsql.engine.kernel.sealing_cy",
    "lsmsql.engine.kernel.table_cy",
    "lsmsql.engine.kernel.table_stream_cy",
    "lsmsql.engine.kernel.window_cy",
    "lsmsql.engine.storage.parity_cy",
    "lsmsql.vtab.cursor_cy",
    "lsmsql.vtab.key_codec_cy",
    "lsmsql.vtab.pending_cy",
    "lsmsql.vtab.row_changes_cy",
    "lsmsql.vtab.row_codec_cy",
    "lsmsql.vtab.row_writer_cy",
    "lsmsql.vtab.views_cy",
)
REQUIRE_COMPILED = os.environ.get("LSMSQL_REQUIRE_COMPILED") == "1"
PURE = os.environ.get("LSMSQL_PURE") == "1"


class OptionalBuild(build_ext):
    """Leaves out what does not compile, says so, and lets the installation succeed (Extension(optional=True) does not survive every failure)."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        with self._optional("the compiled kernels"):
            super().run()

    def build_extension(self, ext: Extension) -> None:
        with self._optional(ext.name):
            if ext.name.startswith("lsmsql.bridge."):
                self._require_header("sqlite3ext.h", "libsqlite3-dev")
            super().build_extension(ext)

    def _require_header(self, name: str, package: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch, "probe.c")
            probe.write_text(f"#include <{name}>\n")
            try:
                self.compiler.compile([str(probe)], output_dir=scratch)
            except Exception as error:
                raise RuntimeError(f"{name} cannot be included: it takes a C compiler and that header (Debian: {package})") from error

    def get_outputs(self) -> list[str]:
        return [output for output in super().get_outputs() if Path(output).exists()]

    def copy_extensions_to_source(self) -> None:
        """In place, copy those that were built."""
        built = [ext for ext in self.extensions if Path(self.build_lib, self.get_ext_filename(self.get_ext_fullname(ext.name))).exists()]
        everything, self.extensions = self.extensions, built
        try:
            super().copy_extensions_to_source()
        finally:
            self.extensions = everything

    @contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if REQUIRE_COMPILED:
                raise
            reason = str(error)[:100]  # A compiler's whole command line helps nobody; with LSMSQL_REQUIRE_COMPILED=1 it is shown.
            print(f"warning: left out {what}, plain Python will do its work: {reason}", file=sys.stderr)


def extensions() -> list[Any]:
    """The extension modules to build; none without Cython or when the plain kernels are asked for."""
    if PURE and REQUIRE_COMPILED:
        raise SystemExit("LSMSQL_PURE=1 and LSMSQL_REQUIRE_COMPILED=1 contradict each other")
    if PURE:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRE_COMPILED:
            raise
        print("warning: left out the compiled kernels: no Cython; the plain Python kernels will be used", file=sys.stderr)
        return []
    modules = [Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=["-O3", "-Wno-unreachable-code"]) for name in COMPILED_MODULES]
    return cythonize(modules, build_dir="build/cython", nthreads=os.cpu_count() or 1, compiler_directives={"language_level": 3})


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
