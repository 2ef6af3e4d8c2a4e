"""Shards: a run's rows split over several processes, each with a journal and a parquet file of its own.

Which rows belong to a shard depends on nothing but how many rows and shards there are. So do their answers not depend on it at
all: a row's seed follows from its position in the whole split.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard number `index`, from 0, of `count`."""

    index: int = 0
    count: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.count == 1

    @property
    def name(self) -> str:
        """Of its folder, and of its files."""
        return f"{self.index:05d}-of-{self.count:05d}"

    @property
    def folder(self) -> str:
        """The name of its folder in the run's."""
        return f"shard-{self.name}"

    def positions(self, rows: int) -> range:
        """Its share of so many rows. Those of all shards are disjoint and complete, and differ by one row at most."""
        return range(rows * self.index // self.count, rows * (self.index + 1) // self.count)

    def all(self) -> "tuple[Shard, ...]":
        """All shards of its set, by their index."""
        return tuple(Shard(index, self.count) for index in range(self.count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
