"""What comes next is made in another thread, while what came before it is used."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T]) -> Iterator[T]:
    """The same, none of which is None: each made while the one before it is used. An error comes in its turn."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        try:
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item
                del item
        finally:
            pool.submit(items.close)
