"""The cluster that the settings name, if they name one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import __version__
from ..access.access import Access
from ..process.failures import Failures
from ..sessions.session import Services
from ..sessions.sessions import Sessions
from ..settings.model import Settings

if TYPE_CHECKING:
    from ..cluster.cluster import Cluster


def cluster_of(
    settings: Settings,
    services: Services,
    sessions: Sessions,
    access: Access,
    failures: Failures,
    fingerprint: Callable[[], str],
) -> Cluster | None:
    """What makes this server a node; None where it is alone. To be made with a running loop. Raises ConfigError."""
    if not settings.cluster.url:
        return None
    # Only here: a server that is alone does without the 50 ms and 6 MB that Redis' client takes.
    from ..cluster.cluster import Cluster

    cluster = Cluster(settings, services.streams, sessions, services.peers, failures, __version__, fingerprint)
    services.names = cluster.mirror
    access.node_secrets = lambda: cluster.registry.secrets
    return cluster
