"""What workers print, at the driver: the same line of several workers is shown once.

A line that several processes print within WINDOW seconds is shown when the first does, and once more at the end of
the window, with how many others said it. A process that repeats itself is shown as it is. MANIPLE_DEDUP_LOGS=0 (or
RAY_DEDUP_LOGS=0) shows all.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from time import monotonic
from typing import Any, Callable, Dict, List, Optional

WINDOW = 5.0  # seconds
_MOST = 10_000  # lines that are remembered
_MARK = re.compile(r"\(.{0,200}? pid=(\d+(?:, node=[^)]*)?)\) ", re.DOTALL)
_HINT = " (equal lines of other workers are counted, not shown; MANIPLE_DEDUP_LOGS=0 shows all)"


class _Seen:
    __slots__ = ("stream", "since", "who", "more", "last")

    def __init__(self, stream: int, since: float, who: str):
        self.stream, self.since, self.who, self.more, self.last = stream, since, who, 0, ""


class Fold:
    """Takes the output of workers, and writes it to this process's own. Safe for several threads."""

    def __init__(self, now: Callable[[], float] = monotonic):
        self.shown = True  # what workers print is of interest here
        self._folds = "0" not in (os.environ.get("MANIPLE_DEDUP_LOGS"), os.environ.get("RAY_DEDUP_LOGS"))
        self._now, self._lock = now, threading.Lock()
        self._part = {1: b"", 2: b""}  # a line of which the end is still to come
        self._seen: Dict[str, _Seen] = {}  # by text, in the order of their times
        self._timer: Optional[threading.Timer] = None
        self._hinted = False

    def feed(self, stream: int, data: bytes) -> None:
        """Takes what came of a stream: 1 output, 2 errors."""
        if not self.shown:
            return
        with self._lock:
            lines = (self._part[stream] + data).split(b"\n")
            self._part[stream] = lines.pop()
            out: Dict[int, List[str]] = {1: [], 2: []}
            self._expire(out, self._now())
            for line in lines:
                self._line(out, stream, line.decode("utf-8", "replace"))
            self._write(out)

    def close(self) -> None:
        """Writes what waits. Nothing more comes."""
        with self._lock:
            out: Dict[int, List[str]] = {1: [], 2: []}
            self._expire(out, float("inf"))
            for stream, part in self._part.items():
                if part:
                    out[stream].append(part.decode("utf-8", "replace"))
            self._part = {1: b"", 2: b""}
            self._write(out)

    def _line(self, out: Dict[int, List[str]], stream: int, line: str) -> None:
        mark = _MARK.match(line) if self._folds else None
        if mark is None:
            out[stream].append(line)
            return
        text, who = line[mark.end() :], mark.group(1)
        seen = self._seen.get(text)
        if seen is None:
            if text and not text.isspace():
                self._seen[text] = _Seen(stream, self._now(), who)
                if len(self._seen) > _MOST:
                    self._over(out, next(iter(self._seen)))
        elif seen.who != who:
            seen.more, seen.last = seen.more + 1, line
            self._wait()
            return
        out[stream].append(line)

    def _expire(self, out: Dict[int, List[str]], now: float) -> None:
        while self._seen:
            text = next(iter(self._seen))
            if self._seen[text].since + WINDOW > now:
                break
            self._over(out, text)

    def _over(self, out: Dict[int, List[str]], text: str) -> None:
        seen = self._seen.pop(text)
        if seen.more:
            times = f" [repeated {seen.more}x across cluster]" if seen.more > 1 else ""
            out[seen.stream].append(seen.last + times + ("" if self._hinted or not times else _HINT))
            self._hinted = self._hinted or bool(times)

    def _wait(self) -> None:
        """Has somebody look again when the window is over."""
        if self._timer is None:
            self._timer = threading.Timer(WINDOW, self._due)
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
            out: Dict[int, List[str]] = {1: [], 2: []}
            self._expire(out, self._now())
            if any(seen.more for seen in self._seen.values()):
                self._wait()
            self._write(out)

    def _write(self, out: Dict[int, List[str]]) -> None:
        for stream, lines in out.items():
            if lines:
                say(sys.stderr if stream == 2 else sys.stdout, "\n".join(lines) + "\n")


def say(stream: Any, text: str) -> None:
    """Writes to one of this process's streams; what users closed or replaced takes nothing."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass
