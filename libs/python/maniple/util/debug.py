"""What is said once and not each time: for loops and for tasks that run in one worker a thousand times."""

from __future__ import annotations

from time import monotonic
from typing import Dict, Optional

_PERIOD = 60.0  # seconds, once enable_periodic_logging was called
_said: Dict[str, float] = {}  # when it was, by key
_mode = {"off": False, "periodic": False}


def log_once(key: str) -> bool:
    """True the first time that this process asks for key; after enable_periodic_logging() again each minute."""
    now = monotonic()
    if _mode["off"] or key in _said and not (_mode["periodic"] and now - _said[key] > _PERIOD):
        return False
    _said[key] = now
    return True


def disable_log_once_globally() -> None:
    """From now on log_once is False in this process."""
    _mode["off"] = True


def enable_periodic_logging() -> None:
    """From now on log_once is True once a minute for each key."""
    _mode["periodic"] = True


def reset_log_once(key: Optional[str] = None) -> None:
    """Lets log_once be True for key again; None: for all."""
    if key is None:
        _said.clear()
    else:
        _said.pop(key, None)
