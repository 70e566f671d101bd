"""Makes the next items in the background while one is used."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
_END: Final = object()


def ahead(items: Iterable[T], lookahead: int) -> Generator[T, None, None]:
    """Give items in their order; one thread makes the next ones meanwhile.

    Useful if producer and consumer use different resources: a CPU that reads texts and a GPU, or
    a disk and a CPU.

    Parameters
    ----------
    items
        Made one after the other, each when the one before it is made; what making one raises is raised where it would
        have been given.
    lookahead
        How many are made ahead, and wait in memory; 0 makes each when it is asked for, without a thread.
    """
    if not lookahead:
        yield from items
        return
    source = iter(items)
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[Any]] = deque(pool.submit(next, source, _END) for _ in range(lookahead))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, source, _END))
            yield cast(T, item)
    finally:
        pool.shutdown(cancel_futures=True)
