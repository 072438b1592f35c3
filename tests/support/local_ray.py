"""A Ray cluster of two cores on this machine, for tests of what runs on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def local_ray() -> Iterator[str]:
    """Its address; it ends with the block. Skips where Ray is not installed."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra: scale)")
    before = dict(os.environ)
    # Workers of a busy machine would wait for all else at Ray's niceness of 15; no token is written to the home folder.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    # "local": another test's cluster may run on this machine, and Ray would join it.
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", object_store_memory=80 << 20)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
