"""The thousand days in the background of a test session: most other tests wait for servers, these only compute."""

from __future__ import annotations

import asyncio
import threading

from tests.simulation.seeds import Run, run

SEEDS, ORDERS, PROCESSES = 1000, 100, 2


class Beside:
    """Begun at once, in processes of their own that give way to all others."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(run(1, SEEDS, ORDERS, PROCESSES, lambda _: None, seconds=seconds))
        self._thread = threading.Thread(target=self._follow, name="thousand days", daemon=True)
        self._thread.start()

    def done(self) -> Run:
        """Waits for the end. Raises what the run raised."""
        self._thread.join()
        return self._task.result()

    def end(self) -> None:
        """Without waiting for more days than have begun."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()
        self._loop.close()

    def _follow(self) -> None:
        self._loop.run_until_complete(asyncio.wait({self._task}))
