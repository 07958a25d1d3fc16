"""What the suites of sandboxes share."""

from __future__ import annotations

import os

import pytest

from autoresearch_kernel.sandbox.kinds import probe


@pytest.fixture(params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kind of sandbox, in use; a machine without it says so, and CI must have both."""
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", request.param)
    report = probe()
    if report.name != request.param:
        reason = f"this machine has no {request.param}: {report.why()}"
        if os.environ.get("AUTORESEARCH_JOURNEYS") == "must":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(request.param)
