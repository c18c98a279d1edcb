"""Who has a stream, as nodes believe it: a model of claims, renewals, deaths, partitions and an emptied registry.

The registry of the model does what the scripts do, by a clock of its own; `test_registry.py` has the scripts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from voice_streaming.cluster.entries import Lease, StreamEntry
from voice_streaming.cluster.leases import REMEMBERED, Leases

LEASE_S = 6.0
NODES = ("0000000a", "0000000b", "0000000c")
KEYS = ("kitchen", "attic")
nodes = st.sampled_from(NODES)
keys = st.sampled_from(KEYS)


def lease(epoch: int, node: str, key: str = "kitchen", resume: str = "") -> Lease:
    return Lease(epoch, node, resume, StreamEntry(key, key, live=True))


@dataclass
class Store:
    """What Redis does."""

    now_s: float = 1000.0
    leases: dict[str, tuple[Lease, float]] = field(default_factory=dict)
    """And until when."""

    def present(self, key: str) -> Lease | None:
        found = self.leases.get(key)
        return found[0] if found is not None and found[1] > self.now_s else None

    def keep(self, key: str, given: Lease) -> None:
        self.leases[key] = (given, self.now_s + LEASE_S)

    def claim(self, key: str, node: str, least: int, proof: str, *, takes: bool) -> Lease | None:
        stored = self.present(key)
        if stored is not None:
            is_proved = takes or (proof != "" and proof == stored.resume)
            if stored.node != node and not is_proved:
                return None
            least = max(least, stored.epoch)
        given = lease(max(least + 1, round(self.now_s * 1_000_000)), node, key, resume=f"key of {node}")
        self.keep(key, given)
        return given

    def renew(self, key: str, own: Lease) -> Lease | None:
        """What another has now."""
        stored = self.present(key)
        if stored is not None and stored.rank > own.rank:
            return stored
        self.keep(key, own)
        return None


class Nodes(RuleBasedStateMachine):
    """Nodes that claim, renew, die, are cut off and come back, while messages come late or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.beliefs = {node: Leases(node) for node in NODES}
        self.cut: set[str] = set()
        self.undelivered: dict[str, list[Lease]] = {node: [] for node in NODES}
        self.seen: dict[tuple[str, str], tuple[int, str]] = {}

    @initialize()
    def begin(self) -> None:
        self.store.now_s = 1000.0

    @rule(node=nodes, key=keys, takes=st.booleans(), knows_key_of=st.sampled_from((*NODES, "")))
    def claim(self, node: str, key: str, takes: bool, knows_key_of: str) -> None:
        if node in self.cut:
            return
        beliefs = self.beliefs[node]
        given = self.store.claim(key, node, beliefs.highest_epoch(key), f"key of {knows_key_of}", takes=takes)
        if given is not None:
            beliefs.claimed(given)
            self.tell(given)
        elif (stored := self.store.present(key)) is not None:
            beliefs.learn(stored)

    @rule(node=nodes)
    def renew(self, node: str) -> None:
        if node in self.cut:
            return
        beliefs = self.beliefs[node]
        for key, own in list(beliefs.own.items()):
            if (other := self.store.renew(key, own)) is not None:
                assert [one.node for one in beliefs.learn(other).lost] == [other.node]
                assert key not in beliefs.own

    @rule(node=nodes, key=keys)
    def release(self, node: str, key: str) -> None:
        own = self.beliefs[node].give_back(key)
        if own is None or node in self.cut:
            return
        if self.store.present(key) == own:
            del self.store.leases[key]
            for other in NODES:
                if other not in self.cut:
                    self.beliefs[other].learn_release(own)

    @rule(node=nodes)
    def die(self, node: str) -> None:
        """It starts again under another id, and knows nothing; here with the same, which is harder."""
        self.beliefs[node] = Leases(node)
        for key in KEYS:
            self.seen.pop((node, key), None)

    @rule(node=nodes)
    def cut_off(self, node: str) -> None:
        self.cut.add(node)

    @rule(node=nodes)
    def come_back(self, node: str) -> None:
        self.cut.discard(node)
        self.read(node)

    @rule(node=nodes)
    def read(self, node: str) -> None:
        if node not in self.cut:
            present = {key: found for key in KEYS if (found := self.store.present(key)) is not None}
            self.beliefs[node].learn_all(present)

    @rule(node=nodes)
    def deliver(self, node: str) -> None:
        """The oldest message that is on its way, however old."""
        if node not in self.cut and self.undelivered[node]:
            self.beliefs[node].learn(self.undelivered[node].pop(0))

    @rule(node=nodes)
    def lose_message(self, node: str) -> None:
        if self.undelivered[node]:
            self.undelivered[node].pop()

    @rule(seconds=st.sampled_from((0.5, 2.0, 7.0)))
    def pass_time(self, seconds: float) -> None:
        self.store.now_s += seconds

    @rule()
    def empty(self) -> None:
        self.store.leases.clear()

    @invariant()
    def nobody_takes_a_lower_epoch_than_it_has_seen(self) -> None:
        for node, beliefs in self.beliefs.items():
            for present in (*beliefs.own.values(), *beliefs.others.values()):
                known = (node, present.entry.key)
                assert present.rank >= self.seen.get(known, (0, ""))
                self.seen[known] = present.rank

    @invariant()
    def no_stream_is_own_and_anothers(self) -> None:
        for beliefs in self.beliefs.values():
            assert not beliefs.own.keys() & beliefs.others.keys()

    def teardown(self) -> None:
        """Once all see each other, each renews twice and reads: one winner, whom everybody knows."""
        self.cut.clear()
        for _ in range(2):
            for node in NODES:
                self.renew(node)
        for node in NODES:
            self.read(node)
        for key in KEYS:
            owners = [node for node, beliefs in self.beliefs.items() if key in beliefs.own]
            assert len(owners) <= 1
            for node, beliefs in self.beliefs.items():
                if owners and node != owners[0]:
                    assert beliefs.others[key].node == owners[0]

    def tell(self, given: Lease) -> None:
        for node in NODES:
            if node != given.node:
                self.undelivered[node].append(given)


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=200, stateful_step_count=40)


def test_of_equal_epochs_the_higher_id_counts() -> None:
    beliefs = Leases(NODES[0])
    beliefs.learn(lease(5, NODES[1]))
    beliefs.learn(lease(5, NODES[2]))
    beliefs.learn(lease(5, NODES[1]))
    assert beliefs.others["kitchen"].node == NODES[2]


def test_what_is_remembered_is_bounded() -> None:
    beliefs = Leases(NODES[0])
    for number in range(REMEMBERED + 10):
        beliefs.learn(lease(5, NODES[1], f"voice {number}"))
    assert beliefs.highest_epoch("voice 0") == 0
    assert beliefs.highest_epoch("voice 10") == 5


def test_a_release_of_an_older_lease_changes_nothing() -> None:
    beliefs = Leases(NODES[0])
    beliefs.learn(lease(6, NODES[2]))
    assert beliefs.learn_release(lease(5, NODES[1])) is None
    assert beliefs.learn_release(lease(6, NODES[2])) == lease(6, NODES[2])
    assert not beliefs.others
