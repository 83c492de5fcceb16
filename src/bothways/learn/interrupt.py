"""A clean stop: Ctrl-C and SIGTERM wait for the step to end."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from bothways.progress import say

_TERMINATED = 128 + signal.SIGTERM


class Interruption:
    """While the block runs, the first SIGINT or SIGTERM is noted and nothing else; the second stops at once.

    Signals that the process was started to ignore stay ignored. Outside the main thread, where Python handles no
    signals, the block changes nothing.

    Attributes:
        signal: The signal that was noted, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def leave(self, sentence: str, *, saved: bool) -> NoReturn:
        """Says where things stand, then ends as the signal asks.

        Args:
            sentence: Where things stand.
            saved: Whether the run can go on from there.

        Raises:
            KeyboardInterrupt: After Ctrl-C, as Python does anyway (exit code 130); it carries the sentence.
            SystemExit: After SIGTERM, with exit code 0: a run that is saved has done what it was asked to; else 143.
        """
        say(sentence)
        self._raise(sentence, 0 if saved else _TERMINATED)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        asked_before, self.signal = self.signal is not None, number
        if asked_before:
            self._raise("stopped at once; the last checkpoint is kept")

    def _raise(self, sentence: str, code: int = _TERMINATED) -> NoReturn:
        if self.signal == signal.SIGTERM:
            raise SystemExit(code)
        raise KeyboardInterrupt(sentence)
