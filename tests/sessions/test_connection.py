from __future__ import annotations

import itertools

import pytest

from voice_streaming.sessions.connection import Connection
from voice_streaming.sessions.states import ConnectionState
from voice_streaming.streams.stream import InvalidTransition

CONNECTION_STEPS = {
    ("created", "ready"),
    ("created", "closed"),
    ("ready", "created"),
    ("ready", "connected"),
    ("ready", "closed"),
    ("connected", "created"),
    ("connected", "ready"),
    ("connected", "streaming"),
    ("connected", "closed"),
    ("streaming", "created"),
    ("streaming", "ready"),
    ("streaming", "connected"),
    ("streaming", "closed"),
}


def connection(state: ConnectionState = ConnectionState.CREATED) -> Connection:
    made = Connection()
    made.id, made.state = "c", state
    return made


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(ConnectionState, 2)))
def test_a_connection_takes_only_the_steps_of_its_life(before: ConnectionState, after: ConnectionState) -> None:
    record = connection(before)
    if (before.value, after.value) in CONNECTION_STEPS:
        record.advance(after)
        assert record.state is after
    else:
        with pytest.raises(InvalidTransition, match=f"connection c: {before.value} -> {after.value}"):
            record.advance(after)
        assert record.state is before


@pytest.mark.parametrize("state", list(ConnectionState))
def test_a_step_to_the_present_state_is_none(state: ConnectionState) -> None:
    record = connection(state)
    record.advance(state)
    assert record.state is state
