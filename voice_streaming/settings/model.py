"""Settings: one frozen, typed object, read at the start, and for some of its keys again on SIGHUP.

Order, later wins: the defaults below, the configuration file, the add-on's options, the environment, the command line.
Every key is checked in the layer that sets it, so that an error can name the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

ADDON_OPTIONS_PATH = Path("/data/options.json")
"""Where Home Assistant's Supervisor writes an add-on's options."""

MIN_SECRET_CHARACTERS = 32
"""HS256's key must have as many bits as its hash (RFC 7518 section 3.2)."""

MAX_PORT = 65_535
Port = Annotated[int, Meta(ge=1, le=MAX_PORT)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
MachineName = Annotated[str, Meta(pattern=r"^(([A-Za-z0-9-]+\.)*[A-Za-z0-9-]+|[0-9A-Fa-f:.]+)$", max_length=253)]
"""A DNS name or an IP address."""
Network = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")]
"""An IP network such as `192.168.1.0/24`, or one address."""
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class ConfigError(Exception):
    """A setting is wrong; the message is one line that names the key, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        # Keys are quoted from a file, and JSON allows line ends in them.
        super().__init__("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in message))


class IceServer(Struct, frozen=True, forbid_unknown_fields=True):
    """An ICE server, as W3C's `RTCIceServer` has it; STUN only, as nothing is relayed outside of the network."""

    urls: Annotated[str, Meta(pattern=r"^stun:[^\s:?]+(:[0-9]{1,5})?$")]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "0.0.0.0"
    """Address to listen on: `0.0.0.0` is every IPv4 address of the machine, `::` every IPv6 address, `*` (or nothing)
    all of both."""
    port: Port = 8080
    """Pages and signalling."""
    log_level: LogLevel = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    log_format: Literal["text", "json"] = "text"
    """Lines of `text`, or of `json`: an object with `time`, `level`, `logger`, `message` and perhaps `exception`."""
    max_connections: Count = 1000
    """Signalling sockets; one more is refused with 503."""
    queue_size: Annotated[int, Meta(ge=4, le=10_000)] = 64
    """Unsent messages that a WebSocket may have before it is closed as too slow."""
    queue_bytes: Annotated[int, Meta(ge=64 * 1024, le=256 * 2**20)] = 4 * 2**20
    """Unsent bytes of messages that it may have, likewise."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=16 * 2**20)] = 256 * 1024
    """A longer message closes its WebSocket (1009)."""
    heartbeat_s: Seconds = 20.0
    """How often a WebSocket is pinged; it is closed when it does not answer within half of that."""
    cleanup_interval_s: Seconds = 300.0
    """How often streams that have ended, or that nobody receives or listens to, are removed."""
    idle_stream_timeout_s: Seconds = 600.0
    """How long a stream that nobody receives or listens to is kept."""
    shutdown_timeout_s: Seconds = 2.0
    """How long connections may take to close when the server stops."""
    frame_ancestors: Annotated[str, Meta(pattern=r"^[^;,\r\n]+$")] = "'self'"
    """Which pages may show ours in a frame, as Content-Security-Policy's `frame-ancestors` has it."""
    tls: Literal["auto", "files", "off"] = "auto"
    """HTTPS beside HTTP: with `ssl_cert_file` where that is given, else with a certificate of our own (`auto`); only
    with `ssl_cert_file` (`files`); or none (`off`)."""
    tls_port: Port = 8443
    """Pages and signalling over HTTPS."""
    ingress_port: Annotated[int, Meta(ge=0, le=MAX_PORT)] = 0
    """A further port, for Home Assistant's ingress alone; 0 for none. The add-on sets it."""
    tls_names: tuple[MachineName, ...] = ()
    """Further names and addresses for our own certificate: what a router calls this machine (`box.fritz.box`)."""
    names: tuple[MachineName, ...] = ()
    """Names of the public DNS that this server is reached by, such as `voice.example.com`, beside those of `tls_names`
    and of its certificate; addresses, single words and names such as `box.local` or `box.lan` need not be here."""
    ssl_cert_file: str = ""
    """PEM file with the certificate and its chain; goes with `ssl_key_file`."""
    ssl_key_file: str = ""
    """PEM file with the key of `ssl_cert_file`."""
    data_dir: str = ""
    """Folder for what must outlive a restart; empty: `/data` in an add-on, else `~/.local/share/voice-streaming`."""


class WebrtcSettings(Struct, frozen=True, forbid_unknown_fields=True):
    ice_servers: tuple[IceServer, ...] = ()
    """STUN servers, such as `{"urls": "stun:host:3478"}`; none are needed on a LAN, and TURN is not used."""
    connection_timeout: Seconds = 30.0
    """Seconds that ICE and DTLS may take before a peer is given up (the name is the original's)."""
    media_timeout_s: Seconds = 10.0
    """A stream with a name pauses when its connected sender sends no packet for so long; one without a name ends."""
    consent_timeout_s: Annotated[float, Meta(ge=6, le=30)] = 30.0
    """A peer that answers no check for so long is given up. It is asked every 5 s; 30 is RFC 7675's limit."""
    resume_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """How long a stream with a name waits for a sender that was lost; then it ends."""
    host_addresses: tuple[str, ...] = ()
    """Addresses to gather ICE candidates on; none given: every address that others can reach."""
    advertised_addresses: tuple[str, ...] = ()
    """Addresses to advertise in ICE candidates instead of `host_addresses`: the machine's, for a container with port
    forwarding. Needs `udp_ports`."""
    udp_ports: Annotated[str, Meta(pattern=r"^(\d{1,5}(-\d{1,5})?)?$")] = ""
    """Where media sockets may bind, such as `40000` or `40000-40100`; empty: any free port. All peers share one socket
    for each host address, so that one port is enough."""
    opus_bitrate_bps: Annotated[int, Meta(ge=6000, le=510_000)] = 48_000
    """Bit rate that senders are asked for."""
    opus_fec: bool = True
    """Ask senders for Opus' in-band error correction."""
    opus_dtx: bool = False
    """Ask senders to send next to nothing while nobody speaks."""
    opus_stereo: bool = False
    """Ask senders for stereo."""

    @property
    def udp_port_range(self) -> range:
        """The ports of `udp_ports`; only 0, which is any free port, where it is empty."""
        first, _, last = self.udp_ports.partition("-")
        return range(int(first or 0), int(last or first or 0) + 1)


class AudioSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Audio over HTTP, as MP3 and as Opus in Ogg."""

    port: Port = 8081
    """Audio over HTTP: the MP3 and the Ogg."""
    bitrate_bps: Literal[32_000, 48_000, 64_000, 96_000, 128_000, 160_000, 192_000, 256_000, 320_000] = 128_000
    """Constant bit rate of the MP3."""
    sample_rate_hz: Literal[32_000, 44_100, 48_000] = 44_100
    """48,000 is what Opus has and needs no resampler; 44,100 is what every player takes."""
    channels: Literal[1, 2] = 2
    """2 is stereo."""
    chunk_ms: Annotated[int, Meta(ge=20, le=1000)] = 180
    """How much is written to a listener of the MP3 at once, rounded to whole frames."""
    burst_ms: Annotated[int, Meta(ge=0, le=5000)] = 500
    """How much of the past a new listener gets at once, so that its player starts; it stays that far behind live."""
    ogg_page_ms: Annotated[int, Meta(ge=60, le=100)] = 100
    """How much is written to a listener of the Ogg at once: a page. Half of it is delay."""
    jitter_ms: Annotated[int, Meta(ge=0, le=1000)] = 40
    """How much later than usual a packet may come and still be heard; adds that much delay to the MP3. 120 ms at least
    in the Ogg, without delay: there a player's buffer absorbs it."""
    max_listeners: Count = 3000
    """Players of the MP3 and the Ogg; one more is refused with 503."""
    max_backlog_s: Annotated[float, Meta(ge=0.5, le=60)] = 5.0
    """How long a listener may take nothing at all before it is disconnected."""
    encoder_linger_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """How long a stream's encoder or muxer runs on after its last listener has left."""
    max_silence_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How long `latest` keeps a listener with silence while nothing is live; 0 is without end."""
    cors_origins: tuple[str, ...] = ()
    """Web pages whose scripts may read the audio, beside this host's own and `access.allowed_origins`; `*` is any."""


class TokenSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A token that is compared as it is."""

    token: Annotated[str, Meta(min_length=16, max_length=1024, pattern=r"^[!-~]+$")]
    """Printable ASCII without spaces, so that it can be sent in a header and in an address."""
    scopes: Annotated[tuple[Literal["send", "receive", "recordings", "admin"], ...], Meta(min_length=1)]
    streams: tuple[str, ...] = ()
    """Names of the streams that it is for; none: all."""
    rooms: tuple[str, ...] = ()
    """Names of the rooms that it is for; none: all, if it is for all streams, and else none."""


class StreamSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Streams and their names."""

    name_taken: Literal["refuse", "replace", "never"] = "refuse"
    """What becomes of a sender that asks for the name of a live stream without that stream's `resume` key: it is told
    so and may ask to take it over (`refuse`), it takes it over at once (`replace`), or it never gets it (`never`)."""
    exclusive_rooms: tuple[str, ...] = ()
    """Names of rooms in which one talks at a time: who comes second is told who talks."""
    even_loudness: bool = True
    """Where several voices are mixed, loud and quiet ones are brought nearer to each other."""


class AccessSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what. With neither `tokens` nor `token_secret`, everybody who reaches the server may do everything."""

    allowed_origins: tuple[Annotated[str, Meta(pattern=r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+)$")], ...] = ()
    """Web pages, such as `https://home.example:8123`, that may use the server beside its own; `*` is any."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of reverse proxies, such as `127.0.0.1` or `172.18.0.0/16`, whose `X-Forwarded-For`, `-Host`, `-Proto`
    and `Forwarded` are believed. See docs/proxies.md."""
    tokens: tuple[TokenSettings, ...] = ()
    """Who may talk or listen; none given: everybody on the network. See SECURITY.md."""
    token_secret: str = ""
    """What tokens are signed with, at least 32 characters (RFC 7518 section 3.2). `webrtc_server_relay.py token` makes
    such tokens. A new secret makes all of them void."""
    ingress_address: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f.:]*$")] = "172.30.32.2"
    """Whose ingress headers are believed, at `server.ingress_port`: the Supervisor's address on its own network."""


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How much clients may use; a request over a limit gets 503, 429 or an `error`.

    `server.max_connections`, `server.max_message_bytes` and `audio.max_listeners` are limits too.
    """

    connections_per_address: Count = 500
    """WebSockets of one address (IPv6: of one /64 network)."""
    tcp_connections_per_address: Count = 1500
    """TCP connections of one address, those of players and browsers included."""
    messages_per_s: Annotated[float, Meta(ge=1, le=10_000)] = 10.0
    """Messages of one WebSocket in the long run; a page sends about one every two seconds."""
    message_burst: Count = 100
    """Messages that it may send at once: all candidates of an ICE agent, for example."""
    max_sdp_characters: Annotated[int, Meta(ge=4096, le=2**20)] = 64 * 1024
    """Of one session description; browsers' have about 10,000 with video."""
    max_negotiations: Count = 100
    """Offers and answers that are worked on or wait for it."""
    max_streams: Count = 100
    """Streams at the same time."""
    max_rooms: Count = 100
    """Rooms at the same time, those of the settings included."""
    max_receivers: Count = 1000
    """WebRTC receivers of all streams together."""
    request_timeout_s: Seconds = 20.0
    """Seconds in which a TCP connection must make a request, the next one included."""
    idle_socket_s: Annotated[float, Meta(ge=1, le=30 * 86_400)] = 3600.0
    """How long a WebSocket may be there without sending, receiving, subscribing or saying anything."""


class DiscoverySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server is announced."""

    lan: bool = True
    """Announce `_voice-streaming._tcp.local.` by multicast DNS; a server that listens on loopback only does not."""
    addresses: tuple[str, ...] = ()
    """Addresses to announce, each on its own network; none given: those that the server listens on, but loopback."""
    home_assistant: bool = True
    """Announce to Home Assistant's Supervisor, when this is an add-on."""


class RecordingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Recordings of voices, as files. Ask those who talk for their consent: see docs/recordings.md."""

    mode: Literal["off", "manual", "always", "speech"] = "off"
    """`manual`: what somebody starts; `always`: also each voice that `names` is for, from its begin. `speech` is
    reserved, and refused until speech is told from noise."""
    names: tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...] = ("*",)
    """Which voices `always` records: patterns such as `kitchen*` of names of streams, or of rooms they are for."""
    folder: str = ""
    """Where recordings are kept; empty: `recordings` in the data folder."""
    max_age_days: Annotated[float, Meta(ge=0, le=36_500)] = 30.0
    """Older recordings are removed; 0 keeps them for ever."""
    max_total_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 10 * 2**30
    """The oldest recordings are removed when there are more bytes of them; 0 is without limit."""
    min_free_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 500 * 2**20
    """As much is left free on the disk: the oldest recordings are removed for it, and then nothing more is recorded."""
    segment_minutes: Annotated[float, Meta(ge=0, le=24 * 60)] = 60.0
    """A recording goes on in another file after so long; 0 is never."""
    split_on_silence_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """After so long without speech the file ends, and the next word begins another; 0 is never. Silence is told by
    packets: a sender that pauses, is muted, or uses DTX."""
    pre_roll_s: Annotated[float, Meta(ge=0, le=30)] = 0.0
    """A recording that is started by hand begins so much earlier: as much of each voice is kept in memory."""
    cue: bool = False
    """Pages sound a short tone when a recording begins."""
    open: bool = False
    """Without tokens: everybody who reaches the server may list, play, start, stop and delete recordings."""
    ingress: bool = False
    """So may each user of Home Assistant, through its ingress."""


EndpointUrl = Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?(\?[^\s#]*)?$", max_length=2048)]
"""Of WHIP or WHEP, without a user's name in it; its query, if it has one, is kept as secret as a token."""
EndpointToken = Annotated[str, Meta(max_length=4096, pattern=r"^[!-~]*$")]
"""A bearer token (RFC 6750 section 2.1); empty: none is sent."""


class PullSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A stream of another server, which is published here."""

    whep: EndpointUrl
    token: EndpointToken = ""
    on_demand: bool = False
    """Pulled only while somebody receives it."""
    ca_file: str = ""
    """PEM file with the authorities to trust instead of the system's."""


class PushSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a stream of this server is published as well."""

    whip: EndpointUrl
    token: EndpointToken = ""
    ca_file: str = ""
    """As for a pull."""


class ClusterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Several servers with one set of streams, which Redis or Valkey keeps. See docs/cluster.md."""

    url: Annotated[str, Meta(pattern=r"^((redis|rediss)://[^\s/@?#]+(/[0-9]{1,4})?)?$", max_length=512)] = ""
    """Where Redis is: `redis://host:6379`, or `rediss://…` for TLS; empty: this server is alone."""
    sentinels: tuple[Annotated[str, Meta(pattern=r"^[^\s:/@]+:[0-9]{1,5}$", max_length=300)], ...] = ()
    """Sentinels, such as `host:26379`, which tell where Redis is; the host of `url` is then the name of the master."""
    user: Annotated[str, Meta(max_length=200)] = ""
    """For Redis' ACL; empty: the default user."""
    password: Annotated[str, Meta(max_length=1024)] = ""
    """Of Redis, and of its Sentinels."""
    ca_file: str = ""
    """PEM file with the authorities to trust for `rediss://` instead of the system's."""
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "voice"
    """What names of keys and channels begin with: one for each cluster that shares a Redis."""
    advertise_url: Annotated[str, Meta(pattern=r"^(https?://[^\s/@?#]+)?$", max_length=300)] = ""
    """Where the other servers reach this one: `http://10.0.0.5:8080`; empty: its first address and its port."""
    node_name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""
    """What this server is called on pages and in figures; empty: the name of the machine."""
    secret: Annotated[str, Meta(max_length=512, pattern=r"^[!-~]*$")] = ""
    """By which servers know each other, at least 32 characters, the same on all; empty: one that Redis keeps."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. Keys in files have the same nesting: `{"server": {"port": 8080}}`."""

    server: ServerSettings = ServerSettings()
    webrtc: WebrtcSettings = WebrtcSettings()
    audio: AudioSettings = AudioSettings()
    streams: StreamSettings = StreamSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    recording: RecordingSettings = RecordingSettings()
    cluster: ClusterSettings = ClusterSettings()
    rooms: tuple[str, ...] = ()
    """Names of rooms that are always there, beside those that come about by use: `["Kitchen", "Kids"]`."""
    sources: dict[str, PullSettings] = msgspec.field(default_factory=dict)
    """Streams to pull from elsewhere by WHEP, by the name that they get here:
    `{"barn": {"whep": "https://…", "token": "…", "on_demand": true, "ca_file": "…"}}`. See docs/whip-whep.md."""
    targets: dict[str, tuple[PushSettings, ...]] = msgspec.field(default_factory=dict)
    """Where streams are pushed to by WHIP while they are live, by their names here:
    `{"kitchen": [{"whip": "https://…", "token": "…", "ca_file": "…"}]}`."""


def recordings_folder(settings: Settings, environment: Mapping[str, str]) -> Path:
    """`recording.folder`, by default in the data folder. Raises ConfigError as that does, if something is recorded."""
    if settings.recording.folder:
        return Path(settings.recording.folder)
    try:
        return data_folder(settings.server, environment) / "recordings"
    except ConfigError:
        if settings.recording.mode != "off":
            raise
        return Path("recordings")  # Where there is none, none are listed.


def data_folder(
    server: ServerSettings, environment: Mapping[str, str], *, options_path: Path = ADDON_OPTIONS_PATH
) -> Path:
    """Where to keep what must outlive a restart; it need not exist yet.

    `server.data_dir` when given; `/data` in an add-on; else `$XDG_DATA_HOME/voice-streaming`, by default
    `~/.local/share/voice-streaming`. Raises ConfigError when the user has no home folder either.
    """
    if server.data_dir:
        return Path(server.data_dir)
    if options_path.exists():
        return options_path.parent
    if shared := environment.get("XDG_DATA_HOME"):
        return Path(shared) / "voice-streaming"
    try:
        return Path.home() / ".local" / "share" / "voice-streaming"
    except RuntimeError as error:
        raise ConfigError('server.data_dir is "": this user has no home folder, so name a folder') from error
