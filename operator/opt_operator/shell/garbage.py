"""Full garbage collections at moments of our own choosing: each looks at every object of every training.

Python makes one whenever there are a quarter more objects than after the last: again and again while a thousand
trainings come in or hundreds of nodes are lost, for a second or more each, in which nothing else is done. What has no
cycles is freed without any, and that is nearly everything; young objects are still looked at as often as usual.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

EVERY_S = 60.0
LET_PASS_S = 600.0
"""So long a collection lets other work pass."""
LOOK_S = 1.0
NEVER = 1 << 30


async def run(busy: Callable[[], bool]) -> None:
    """Collect until cancelled.

    Args:
        busy: Whether there is more to do than gets done.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], before[1], NEVER)
    try:
        while True:
            await asyncio.sleep(EVERY_S)
            for _ in range(round(LET_PASS_S / LOOK_S)):
                if not busy():
                    break
                await asyncio.sleep(LOOK_S)
            gc.collect()
    finally:
        gc.set_threshold(*before)
