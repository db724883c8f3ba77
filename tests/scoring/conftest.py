"""A small Ray cluster for the scoring tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="package", autouse=True)
def cluster() -> Iterator[None]:
    """Ray with two CPUs, until the last test of this folder, unless another fixture started one."""
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    if started:
        ray.shutdown()
