"""A folder needs no client for S3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

OPEN = """
import sys
from opt_store import S3Credentials, S3Settings, open_store
where, who = S3Settings(endpoint="http://127.0.0.1:1"), S3Credentials(access_key="a", secret_key="b")
open_store(sys.argv[1], s3=where, credentials=who)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize(("url", "imported"), [("file://{}", False), ("s3://bucket", True)])
def test_minio_is_imported_for_s3_alone(url: str, imported: bool, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, url.format(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ({"minio", "urllib3"} <= set(done.stdout.split())) == imported
