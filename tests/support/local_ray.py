"""A Ray cluster of two cores on this machine, for tests of what runs on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# On a busy machine its processes need longer than 20 seconds to find each other. Some of it is read at import.
PATIENCE = {"RAY_NUM_REDIS_GET_RETRIES": "120", "RAY_gcs_server_port_wait_time_s": "120"}


@contextmanager
def local_ray() -> Iterator[str]:
    """Its address; it ends with the block. Skips where Ray is not installed."""
    before = dict(os.environ)
    os.environ |= PATIENCE
    ray = pytest.importorskip("ray", reason="ray is not installed (extra: scale)")
    # Workers of a busy machine would wait for all else at Ray's niceness of 15; no token is written to the home folder.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.shutdown()  # of a test before that ended badly; nothing where there is none
    # "local": another test's cluster may run on this machine, and Ray would join it.
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", object_store_memory=80 << 20)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
