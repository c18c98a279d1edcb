"""What one node knows of who has which stream. No I/O: the registry brings what it is told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from .entries import Lease, StreamEntry

REMEMBERED = 10_000
"""Streams whose highest epoch is remembered after their end; some hundred bytes each."""


@dataclass
class Changes:
    """What others are to be told of after something was learnt."""

    changed: list[Lease] = field(default_factory=list)
    """Leases of other nodes that are new or others."""
    gone: list[Lease] = field(default_factory=list)
    """Leases of other nodes that are not there any more, and were not released."""
    lost: list[Lease] = field(default_factory=list)
    """Leases that were ours, as others have them now."""


class Leases:
    """`own` are this node's, `others` those of all other nodes, by the key of the stream.

    A lease with a lower rank than one that was seen is never taken for the present one, whoever tells of it.
    """

    def __init__(self, node: str) -> None:
        self.own: dict[str, Lease] = {}
        self.others: dict[str, Lease] = {}
        self._node = node
        self._highest: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def highest_epoch(self, key: str) -> int:
        """Of all leases of the stream that were seen; 0 for none."""
        return self._highest.get(key, (0, ""))[0]

    def claimed(self, lease: Lease) -> None:
        """The registry gave it to us."""
        key = lease.entry.key
        if self._note(key, lease):
            self.own[key] = lease
            self.others.pop(key, None)

    def describe(self, entry: StreamEntry, resume: str | None = None) -> bool:
        """Whether our lease of that stream says something else from now on; `resume` None: the same as before."""
        lease = self.own.get(entry.key)
        if lease is None:
            return False
        described = replace(lease, entry=entry, resume=lease.resume if resume is None else resume)
        self.own[entry.key] = described
        return described != lease

    def give_back(self, key: str) -> Lease | None:
        """Our lease of the stream, which is to be released and is not ours any more."""
        return self.own.pop(key, None)

    def learn(self, lease: Lease) -> Changes:
        """Somebody has the stream."""
        key, changes = lease.entry.key, Changes()
        if lease.node == self._node or not self._note(key, lease):
            return changes
        if self.own.pop(key, None) is not None:
            changes.lost.append(lease)
        if self.others.get(key) != lease:
            self.others[key] = lease
            changes.changed.append(lease)
        return changes

    def learn_release(self, lease: Lease) -> Lease | None:
        """Its node gave it back: that lease, as it was known, if it was the present one."""
        known = self.others.get(lease.entry.key)
        if known is None or known.rank != lease.rank:
            return None
        return self.others.pop(lease.entry.key)

    def learn_all(self, leases: Mapping[str, Lease]) -> Changes:
        """All that there are."""
        changes = Changes()
        for lease in leases.values():
            more = self.learn(lease)
            changes.changed += more.changed
            changes.lost += more.lost
        for key in [key for key in self.others if key not in leases]:
            changes.gone.append(self.others.pop(key))
        return changes

    def _note(self, key: str, lease: Lease) -> bool:
        """Whether no higher one was seen."""
        if lease.rank < self._highest.get(key, (0, "")):
            return False
        self._highest[key] = lease.rank
        self._highest.move_to_end(key)
        while len(self._highest) > REMEMBERED:
            self._highest.popitem(last=False)
        return True
