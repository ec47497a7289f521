"""What every test shares: a deterministic hypothesis profile, and the guard that a silent fallback cannot pass as compiled."""

from __future__ import annotations

import os

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "lsmsql",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("lsmsql")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("LSMSQL_REQUIRE_COMPILED") == "1":
        from lsmsql._compiled import bridge_module
        from lsmsql.engine import kernel

        if not kernel.COMPILED:
            raise pytest.UsageError("LSMSQL_REQUIRE_COMPILED=1, but the compiled kernels are not there")
        if bridge_module() is None:
            raise pytest.UsageError("LSMSQL_REQUIRE_COMPILED=1, but the bridge is not there")
