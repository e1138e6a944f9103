"""Statuses of errors."""

from __future__ import annotations

from sealwright.errors import OverloadedError
from sealwright.ids import uuid7
from sealwright.server.rpc.status import Prepared, to_status


def test_a_prepared_status_is_the_status_that_would_be_made_for_the_call() -> None:
    error = OverloadedError("too much", retry_after=1, metadata={"provider": "aws"})
    prepared = Prepared(error)
    for request_id in (uuid7(), uuid7()):
        made = to_status(error, request_id)
        assert prepared.details(request_id) == made.SerializeToString()
        assert (prepared.code, prepared.message) == (made.code, made.message)
