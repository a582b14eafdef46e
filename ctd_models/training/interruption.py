"""SIGTERM and Ctrl-C as a request that training answers at its next safe point."""

import signal
import threading
from typing import Any


class Interruption:
    """A context in which SIGTERM and SIGINT only set `requested`; `deliver` then lets them take their course.

    A second signal is not held back. Outside the main thread, where signals cannot be caught, it does nothing.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, enabled: bool = True):
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._previous: dict[int, Any] = {}
        self._received: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def __enter__(self) -> "Interruption":
        if self._enabled:
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self._received = number
        signal.signal(number, self._previous[number])

    def deliver(self) -> None:
        """Raises the signal again, for the handlers that were there before. If they return, watching goes on."""
        number, self._received = self._received, None
        self.__exit__()
        signal.raise_signal(number)
        self.__enter__()
