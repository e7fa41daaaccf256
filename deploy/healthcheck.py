"""Is the service on this address serving? ``python healthcheck.py HOST:PORT CERTIFICATES``: ends with 0 if so, else 1.

For a container's health check: it asks gRPC's standard health service over mutual TLS, with the service's own
certificate on both sides, so that an expired certificate is ill health too. The name that the server must show is read
from the certificate.
"""  # noqa: INP001 - a program, not part of a package

import sys
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuaixiang.runtime import pki, tls

SECONDS_MAX: Final = 3.0
"""A healthy service answers in milliseconds; the container's own time-out is five seconds."""


def serving(endpoint: str, certificates: Path) -> bool:
    """Whether the service answers SERVING. Raises `pki.PkiError` for certificates that cannot be used."""
    credentials = pki.load(pki.CertificatePaths.in_folder(certificates))
    names = credentials.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    own_name = names.get_values_for_type(x509.DNSName)[0]
    options = (("grpc.ssl_target_name_override", own_name),)
    with grpc.secure_channel(endpoint, tls.channel_credentials(credentials), options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods have no types
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Say what is wrong, where something is."""
    endpoint, certificates = sys.argv[1:]
    try:
        if serving(endpoint, Path(certificates)):
            return 0
        wrong = f"{endpoint} answers, but does not serve now"
    except grpc.RpcError as failure:
        wrong = f"{endpoint}: {failure.code().name}: {failure.details()}"
    except pki.PkiError as failure:
        wrong = str(failure)
    sys.stdout.write(f"{wrong}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
