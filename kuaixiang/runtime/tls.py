"""Peers speak mutual TLS: both sides show a certificate of the federation's authority.

A server picks up a renewed certificate by itself, at the next connection. A client's credentials are fixed when its
channel is opened: after a renewal it takes a new channel (`kuaixiang.runtime.channels`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kuaixiang.runtime import tracing
from kuaixiang.runtime.pki import TRUST_DOMAIN, CertificatePaths, Credentials, LiveCredentials, load

Options = Sequence[tuple[str, int | str]]

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Both ways. A case with a hundred texts of 10,000 characters is 3 MB; anything larger travels as a stream."""
METADATA_BYTES_MAX: Final = 16 * 1024
"""Room for rich error details, which travel as trailing metadata."""
KEEPALIVE_MS: Final = 30_000
"""A silent link is asked this often whether it still lives; provincial firewalls forget idle links after minutes."""
KEEPALIVE_TIMEOUT_MS: Final = 10_000
"""A ping unanswered for this long closes the connection, and its calls fail as UNAVAILABLE."""
KEEPALIVE_ALLOWED_MS: Final = 20_000
"""The server's own lower bound; below the clients' interval, or it would send them away with GOAWAY."""
HANDSHAKE_MS_MAX: Final = 10_000
"""Who connects and does not finish the handshake in so long is sent away; gRPC itself waits for two minutes."""
IDLE_MS_MAX: Final = 1_800_000
"""A connection without a call for half an hour is closed; its owner opens another one when it has something to ask."""
CONNECT_MS: Final = 5_000
"""So long an attempt to connect may take: over a slow link, or to a busy machine, TCP and TLS take a second and more.
gRPC calls it `min_reconnect_backoff`, and cuts off whatever is not connected by then."""
RECONNECT_MS_FIRST: Final = 200
RECONNECT_MS_MAX: Final = 10_000
"""A peer that comes back is found within ten seconds, however long it was away."""
IDENTITIES_CACHED: Final = 4096
"""More than the bureaus of the tree: every peer's certificate is parsed once."""

SERVER_OPTIONS: Final[Options] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_ALLOWED_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS_MAX),
    ("grpc.max_connection_idle_ms", IDLE_MS_MAX),
    # Otherwise a second process on the same port would be given half of the calls instead of an error.
    ("grpc.so_reuseport", 0),
)
CHANNEL_OPTIONS: Final[Options] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_FIRST),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
)


class PeerWithoutCertificate(Exception):
    """A call came in over a connection whose peer has shown no certificate."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        super().__init__(f"The peer {peer} has shown no certificate; only mutual TLS says who is calling.")


@dataclass(frozen=True, slots=True)
class Identity:
    """For whom a peer may speak, by its certificate: bureau codes of nodes, of offices, and scopes of hubs.

    Codes are not looked up in the tree here. A certificate without a name of the federation is an empty identity.
    """

    bureaus: frozenset[str] = frozenset()
    offices: frozenset[str] = frozenset()
    hubs: frozenset[str] = frozenset()


def identity_of_certificate(certificate: x509.Certificate) -> Identity:
    """The identity in a certificate's SPIFFE URIs; other names in it say nothing."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Identity()
    codes: dict[str, set[str]] = {"bureau": set(), "office": set(), "hub": set()}
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        match uri.split("/"):
            case ["spiffe:", "", domain, role, code] if domain == TRUST_DOMAIN and role in codes:
                codes[role].add(code)
            case _:
                continue
    return Identity(frozenset(codes["bureau"]), frozenset(codes["office"]), frozenset(codes["hub"]))


@dataclass(frozen=True, slots=True)
class Peer:
    """A certificate that was shown: for whom its holder may speak, and by what it is known in lists."""

    identity: Identity
    serial: int
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal."""
    certificate: x509.Certificate = field(repr=False)


def peer_of_certificate(certificate: x509.Certificate) -> Peer:
    """What is known of the holder of a certificate."""
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Peer(identity_of_certificate(certificate), certificate.serial_number, fingerprint, certificate)


def peer_of(context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
    """Who is calling, and by which certificate. It was checked by the handshake. Raises `PeerWithoutCertificate`."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        return _peer_of_pem(pem)
    raise PeerWithoutCertificate(context.peer())


@lru_cache(maxsize=IDENTITIES_CACHED)
def _peer_of_pem(pem: bytes) -> Peer:
    return peer_of_certificate(x509.load_pem_x509_certificate(pem))


def server_credentials(paths: CertificatePaths) -> grpc.ServerCredentials:
    """Credentials for one server, which asks every client for a certificate and follows renewals of its own.

    Make new ones for each server: gRPC is told of a change once. Raises `FileUnreadable`, `KeyMismatch`.
    """
    live = LiveCredentials(paths)
    shown = live.current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        current = live.current()
        if current is shown:
            return None
        shown = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        changed,  # type: ignore[arg-type]  # None means "no change"; the stubs do not know it
        require_client_authentication=True,
    )


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """Credentials for a client, for good: a renewal takes a new channel."""
    return grpc.ssl_channel_credentials(credentials.ca_pem, credentials.key_pem, credentials.certificate_pem)


def open_channel(endpoint: str, server_name: str, paths: CertificatePaths, options: Options = ()) -> grpc.aio.Channel:
    """A channel to `host:port` with the certificate that is in the files now; otherwise as `channel_to`.

    Raises `FileUnreadable`, `KeyMismatch`.
    """
    return channel_to(endpoint, server_name, load(paths), options)


def channel_to(endpoint: str, server_name: str, credentials: Credentials, options: Options = ()) -> grpc.aio.Channel:
    """A channel to `host:port`, which must show a certificate with that DNS name (`pki.dns_name`).

    Keep it: one long-lived channel per peer. `options` are added to `CHANNEL_OPTIONS` and win over them. Nothing is
    sent before the first call.
    """
    named = {**dict(CHANNEL_OPTIONS), "grpc.ssl_target_name_override": server_name, **dict(options)}
    spans = tracing.spans()
    return grpc.aio.secure_channel(
        endpoint,
        channel_credentials(credentials),
        options=tuple(named.items()),
        interceptors=None if spans is None else spans.interceptors(),
    )


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key_pem, credentials.certificate_pem)], root_certificates=credentials.ca_pem
    )
