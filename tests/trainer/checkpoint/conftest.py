"""Builds MinIO before the first test starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.building import before_the_first_test
from support.s3 import minio_program


def pytest_collection_finish(session: pytest.Session) -> None:
    before_the_first_test(session, "integration", Path(__file__).parent, minio_program)
