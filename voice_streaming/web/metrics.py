"""The figures as Prometheus wants them. As JSON they are answered as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from ..process.figures import Figures

PREFIX = "voice_streaming_"


class Family(NamedTuple):
    """A metric; its samples differ in `label`, where it has one. A counter is called `_total` in the answer."""

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    help: str
    label: str = ""


_COUNTER, _GAUGE = CounterMetricFamily, GaugeMetricFamily
_MP3_DROPPED = Family(_COUNTER, "mp3_dropped_packets", "Opus packets that the MP3 is without", "reason")

_OGG_DROPPED = Family(_COUNTER, "ogg_dropped_packets", "Opus packets that the Ogg is without", "reason")

_FAMILIES: dict[str, Family] = {
    "uptime_seconds": Family(_GAUGE, "uptime_seconds", "Since the start"),
    "active_streams": Family(_GAUGE, "live_streams", "Streams that are live"),
    "total_audio_bytes": Family(_COUNTER, "received_audio_bytes", "Payload bytes that senders sent"),
    "webrtc_available": Family(_GAUGE, "webrtc_available", "1 where WebRTC is served"),
    "failures": Family(_COUNTER, "failures", "Failures of the server's own parts, which are in its log"),
    "active_connections": Family(_GAUGE, "websockets", "WebSockets that are open"),
    "slow_websockets_closed": Family(_COUNTER, "slow_websockets_closed", "WebSockets that were closed for not reading"),
    "receivers": Family(_GAUGE, "receivers", "WebRTC receivers of all streams"),
    "receivers_packets_lost": Family(
        _GAUGE, "receivers_lost_packets", "Packets that the present receivers have reported as lost"
    ),
    "receivers_jitter_max_seconds": Family(
        _GAUGE, "receivers_jitter_max_seconds", "The largest jitter that a present receiver reports"
    ),
    "forwarded_packets": Family(_COUNTER, "forwarded_packets", "Packets sent to WebRTC receivers"),
    "negotiations": Family(_GAUGE, "negotiations", "Offers and answers that are worked on or wait for it"),
    "tcp_connections": Family(_GAUGE, "tcp_connections", "TCP connections that are open"),
    "mp3_listeners": Family(_GAUGE, "mp3_listeners", "Players of the MP3 that are connected"),
    "mp3_encoders": Family(_GAUGE, "mp3_encoders", "Streams that are encoded as MP3 now"),
    "mp3_listeners_total": Family(_COUNTER, "mp3_listeners_joined", "Players of the MP3 that have connected"),
    "mp3_sent_bytes_total": Family(_COUNTER, "mp3_sent_bytes", "Bytes of MP3 written to players"),
    "mp3_slow_listeners_disconnected_total": Family(
        _COUNTER, "mp3_slow_listeners_disconnected", "Players that were disconnected for taking nothing"
    ),
    "mp3_slow_listeners_brought_back_total": Family(
        _COUNTER, "mp3_slow_listeners_brought_back", "Times that a slow player was brought back to live"
    ),
    "mp3_slow_listeners_dropped_seconds_total": Family(
        _COUNTER, "mp3_slow_listeners_dropped_seconds", "Audio that was dropped for slow players"
    ),
    "mp3_encoder_cpu_seconds_total": Family(_COUNTER, "mp3_encoder_cpu_seconds", "CPU time of encoding"),
    "mp3_encoded_seconds_total": Family(_COUNTER, "mp3_encoded_seconds", "Audio that was encoded"),
    "mp3_silence_seconds_total": Family(_COUNTER, "mp3_silence_seconds", "Silence put in where none came"),
    "mp3_concealed_packets_total": Family(
        _COUNTER, "mp3_concealed_packets", "Lost packets that were concealed in the MP3"
    ),
    "ogg_listeners": Family(_GAUGE, "ogg_listeners", "Players of the Ogg that are connected"),
    "ogg_muxers": Family(_GAUGE, "ogg_muxers", "Logical Ogg streams that are made now"),
    "ogg_listeners_total": Family(_COUNTER, "ogg_listeners_joined", "Players of the Ogg that have connected"),
    "ogg_sent_bytes_total": Family(_COUNTER, "ogg_sent_bytes", "Bytes of Ogg written to players"),
    "ogg_slow_listeners_disconnected_total": Family(
        _COUNTER, "ogg_slow_listeners_disconnected", "Players of the Ogg that were disconnected for taking nothing"
    ),
    "ogg_slow_listeners_brought_back_total": Family(
        _COUNTER, "ogg_slow_listeners_brought_back", "Times that a slow player of the Ogg was brought back to live"
    ),
    "ogg_slow_listeners_dropped_seconds_total": Family(
        _COUNTER, "ogg_slow_listeners_dropped_seconds", "Audio that was dropped for slow players of the Ogg"
    ),
    "ogg_silence_seconds_total": Family(
        _COUNTER, "ogg_silence_seconds", "Silence put into the Ogg where no packets came"
    ),
    "recordings_active": Family(_GAUGE, "recordings_active", "Recordings that are being made"),
    "recordings_started_total": Family(_COUNTER, "recordings_started", "Files of recordings that were begun"),
    "recordings_failed_total": Family(_COUNTER, "recordings_failed", "Files of recordings that the disk did not take"),
    "recording_written_bytes_total": Family(_COUNTER, "recording_written_bytes", "Bytes of recordings"),
    "recording_waiting_writes": Family(_GAUGE, "recording_waiting_writes", "Writes that wait for the disk"),
    "recording_silence_seconds_total": Family(
        _COUNTER, "recording_silence_seconds", "Silence put into recordings where no packets came"
    ),
    "recording_late_packets_total": Family(
        _COUNTER, "recording_late_packets", "Packets that came when silence had taken their time in a recording"
    ),
    "recordings_kept": Family(_GAUGE, "recordings_kept", "Recordings in the folder"),
    "recordings_kept_bytes": Family(_GAUGE, "recordings_kept_bytes", "Bytes of the recordings in the folder"),
    "rooms": Family(_GAUGE, "rooms", "Rooms that there are"),
    "mixes": Family(_GAUGE, "mixes", "Different mixes of voices that are made now"),
    "mixed_frames_total": Family(_COUNTER, "mixed_frames", "Frames of 20 ms of mixed voices that were encoded"),
    "mixing_skipped_frames_total": Family(
        _COUNTER, "mixing_skipped_frames", "Frames that were not made, as the process was held up"
    ),
    "mixing_refused_total": Family(_COUNTER, "mixing_refused", "Mixes that were one too many"),
    "cluster_nodes": Family(_GAUGE, "cluster_nodes", "Servers of the cluster that are there, this one included"),
    "cluster_leases": Family(_GAUGE, "cluster_leases", "Streams and names that are this server's"),
    "cluster_remote_streams": Family(_GAUGE, "cluster_remote_streams", "Streams and names that are other servers'"),
    "cluster_pulls": Family(_GAUGE, "cluster_pulls", "Voices that are brought from other servers"),
    "cluster_registry_connected": Family(_GAUGE, "cluster_registry_connected", "1 where Redis answers"),
    "cluster_registry_latency_seconds": Family(
        _GAUGE, "cluster_registry_latency_seconds", "How long Redis took for the newest renewal"
    ),
    "cluster_registry_reconnects_total": Family(
        _COUNTER, "cluster_registry_reconnects", "Times that the connection to Redis was lost"
    ),
    "cluster_registry_readings_total": Family(
        _COUNTER, "cluster_registry_readings", "Times that everything was read anew"
    ),
    "cluster_registry_operations_total": Family(_COUNTER, "cluster_registry_operations", "Scripts that Redis ran"),
    "cluster_refused_entries_total": Family(
        _COUNTER, "cluster_refused_entries", "Entries of the registry that could not be read"
    ),
    "loop_lag_p50_seconds": Family(
        _GAUGE, "loop_lag_median_seconds", "How late the event loop ran, median of the last minute"
    ),
    "loop_lag_max_seconds": Family(
        _GAUGE, "loop_lag_max_seconds", "How late the event loop ran, at most in the last minute"
    ),
    "tasks": Family(_GAUGE, "tasks", "Tasks of asyncio"),
    "open_files": Family(_GAUGE, "open_files", "Open file descriptors"),
    "threads": Family(_GAUGE, "threads", "Threads of the process"),
    "resident_bytes": Family(_GAUGE, "resident_memory_bytes", "Resident memory of the process"),
}
"""The family of each figure that is all of it."""

_OF_ONE_FAMILY = {
    "mp3_late_packets_total": (_MP3_DROPPED, "late"),
    "mp3_broken_packets_total": (_MP3_DROPPED, "broken"),
    "ogg_late_packets_total": (_OGG_DROPPED, "late"),
    "ogg_early_packets_total": (_OGG_DROPPED, "early"),
    "ogg_broken_packets_total": (_OGG_DROPPED, "broken"),
    "ogg_left_out_packets_total": (_OGG_DROPPED, "left_out"),
}
"""The family of figures that share one, and the value of the label."""

_LABELLED = {
    "refused_": Family(_COUNTER, "refused", "What was refused; the limits are in voice_streaming_limit", "reason"),
    "dropped_packets_": Family(_COUNTER, "dropped_packets", "Packets that no receiver was sent", "reason"),
    "limit_": Family(_GAUGE, "limit", "The limits that are set, each in the unit of its name", "limit"),
}
"""The family of all figures with a name that begins so; the rest of the name is the label's value."""

_SUMS = {"dropped_packets"}
"""Figures that are the sum of a family."""


class FiguresCollector:
    """What prometheus-client encodes."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        metrics: dict[Family, CounterMetricFamily | GaugeMetricFamily] = {}
        for key, value in self._figures.items():
            found = family_of(key)
            if found is None or value is None or isinstance(value, str):
                continue
            family, label = found
            if family not in metrics:
                labels = [family.label] if family.label else []
                metrics[family] = family.kind(PREFIX + family.name, family.help, labels=labels)
            metrics[family].add_metric([label] if family.label else [], float(value))
        yield from metrics.values()


def family_of(key: str) -> tuple[Family, str] | None:
    """The family of a figure, and the value of its label; None for sums, and for what is no metric."""
    if key in _SUMS:
        return None
    if key in _FAMILIES:
        return _FAMILIES[key], ""
    if key in _OF_ONE_FAMILY:
        return _OF_ONE_FAMILY[key]
    for beginning, family in _LABELLED.items():
        if key.startswith(beginning):
            return family, key.removeprefix(beginning)
    return None


def metric_names(figures: Iterable[str]) -> set[str]:
    """By what names these figures are in the answer."""
    families = [found[0] for key in figures if (found := family_of(key)) is not None]
    return {PREFIX + family.name + ("_total" if family.kind is _COUNTER else "") for family in families}


def prometheus(figures: Figures, accept: str) -> tuple[bytes, str]:
    """The figures in the exposition format that an `Accept` header asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(FiguresCollector(figures)), content_type


def wants_prometheus(accept: str) -> bool:
    """Whether an `Accept` header asks for text rather than JSON."""
    accept = accept.lower()
    return "json" not in accept and ("text/plain" in accept or "openmetrics" in accept)
