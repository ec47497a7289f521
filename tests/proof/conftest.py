"""Time for the campaigns that take every image, byte and call (LSMSQL_LONG=1): the time limit of ordinary tests is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.judge import LONG

SECONDS_MAX = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if LONG:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.timeout(SECONDS_MAX))
