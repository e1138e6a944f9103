"""`sealwright` with a clock that the soak sets, and with a rule taken out where the run is to fail.

    python -m soak.replica CLOCK RULE serve --config FILE

CLOCK is a file with the seconds by which the machine's clock is wrong. (libfaketime can do that too, at six times the CPU.) RULE is
one of `RULES`. This is for tests alone: no setting of the service can do it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealwright import clock
from sealwright.__main__ import main
from sealwright.keys.lifecycle import Limits
from sealwright.signing import Signer

NOTHING = timedelta()
SOUND = "nothing"
"""The rule that takes nothing out."""
_READ_SECONDS = 0.1


class WrongClock:
    """A clock that is wrong by what a file says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = float("-inf")
        self._error = NOTHING

    def now(self) -> datetime:
        """Return the time of day, in UTC, as this machine has it."""
        if time.monotonic() - self._read > _READ_SECONDS:
            self._error = timedelta(seconds=float(self._file.read_text()))
            self._read = time.monotonic()
        return datetime.now(UTC) + self._error


def _no_lead() -> None:
    _replace(Limits, "lead", lambda _limits, _min_lead: NOTHING)
    _replace(Limits, "scheduled_wait", property(lambda _limits: NOTHING))


def _no_tail() -> None:
    _replace(Limits, "tail", property(lambda _limits: NOTHING))


def _no_release_check() -> None:
    _replace(Signer, "_require_release", lambda _signer, _name, _kid: None)


def _replace(owner: Any, name: str, rule: Any) -> None:
    if name not in vars(owner):
        raise AttributeError(f"{owner.__name__} has no {name} any more")
    setattr(owner, name, rule)


RULES: dict[str, Callable[[], None]] = {
    SOUND: lambda: None,
    "lead": _no_lead,
    "tail": _no_tail,
    "release-check": _no_release_check,
}

if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    wrong = WrongClock(file)
    _replace(clock.SystemClock, "now", lambda _clock: wrong.now())
    _replace(clock, "boot_id", lambda: file.parent.name)  # each host is a machine of its own
    RULES[sys.argv.pop(1)]()
    main()
