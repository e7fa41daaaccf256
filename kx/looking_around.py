"""What `kx doctor` looks at beyond the machine: the site's NATS, other bureaus' nodes, their versions and clocks.

A peer is looked at in three steps, so that what is wrong is named by the step that fails: a TLS handshake, in which it
must show a certificate of the authority with its bureau's name, unrevoked and, where the tree lists fingerprints, a
listed one; gRPC's health check, whose answer tells version and time; and a call that the peer must let this service
make, which shows that it believes this certificate.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import grpc.aio
from cryptography import x509
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import pki, revocation, tls
from kuaixiang.runtime.backups import product_version
from kuaixiang.runtime.bus import Access, Bus, BusError, NotPermitted, StreamMissing, head_subject, site_domain
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.serving import TIME_KEY, VERSION_KEY
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import cosign_pb2, cosign_pb2_grpc, ledger_pb2, ledger_pb2_grpc
from kx.findings import Finding, Verdict, fail, ok, warn
from kx.looking_here import EXPIRES_WITHIN

SECONDS_MAX: Final = 10.0
"""A peer answers within milliseconds, over a bad line within seconds."""
AT_ONCE: Final = 32
"""Peers looked at at a time: a national hub has some three thousand ledgers at some forty addresses."""
SKEW_SECONDS_MAX: Final = 2.0
"""Clocks by NTP differ by milliseconds; a deadline is the end of a day, and a certificate's date a minute."""
SKEW_SECONDS_FAIL: Final = 60.0


@dataclass(frozen=True, slots=True)
class Me:
    """Who looks: by which certificate, and by which tree."""

    certificates: CertificatePaths
    tree: BureauTree


@dataclass(frozen=True, slots=True)
class Place:
    """The end of a journal."""

    generation: int
    seq: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a peer must let this service ask, to show that it believes its certificate; None of both: nothing."""

    witness_of: str = ""
    """A bureau of this node, whose ledger the peer witnesses."""
    end: Callable[[], Place | None] = lambda: None
    """Where that ledger ends now."""
    head: bool = False
    """The end of the peer's journal, which superiors and hubs read."""


def now() -> float:
    """This machine's time, Unix seconds."""
    return time.time()


async def nats(access: Access, sites: Sequence[str], bureaus: Sequence[str] = ()) -> list[Finding]:
    """The NATS server of the own site: reached, this certificate known; the streams of sites; what may be published.

    `bureaus` are those of the own site that this service publishes for.
    """
    async with Bus(access) as bus:
        try:
            await bus.wait_connected(SECONDS_MAX)
        except BusError:
            why = bus.failure or "no answer"
            return [
                fail(
                    "nats",
                    Both(f"No connection as {access.user}: {why}.", f"无法以 {access.user} 连接（{why}）。"),
                    Both(
                        "See that the site's server runs, that nats_url is right, and that its configuration knows "
                        "this certificate (deploy/nats).",
                        "请确认站点服务器运行、nats_url 正确，且其配置中登记了本证书（deploy/nats）。",
                    ),
                )
            ]
        found = [ok("nats", f"Connected as {access.user}.", f"已以 {access.user} 连接。")]
        streams = [await _stream(bus, site) for site in sites]
        found += streams
        if all(one.verdict is Verdict.OK for one in streams) and bureaus:
            refused = [one for bureau in bureaus if (one := await _publishing(bus, access, bureau)) is not None]
            well = ok(
                "nats permissions", f"May publish for {len(bureaus)} bureau(s).", f"可为 {len(bureaus)} 个单位发布。"
            )
            found += refused or [well]
        return found


async def _stream(bus: Bus, site: str) -> Finding:
    look = f"nats stream {site}"
    try:
        state = await bus.stream_state(site_domain(site))
    except StreamMissing:
        return warn(
            look,
            Both(f"The site {site} has no stream yet.", f"站点 {site} 尚无消息流。"),
            Both(f"Start the node of {site}, which makes it.", f"请启动 {site} 的节点，由其建立。"),
        )
    except BusError as failure:
        return fail(
            look,
            Both(f"The site's JetStream does not answer: {failure}", f"站点 JetStream 没有响应（{failure}）。"),
            Both(
                "Look at its log, its disk and, for another site, its leaf link (/leafz).",
                "请检查其日志、磁盘与叶节点链路（/leafz）。",
            ),
        )
    return ok(look, f"{state.messages} messages, {state.bytes / 2**20:.1f} MiB.", f"现有 {state.messages} 条。")


async def _publishing(bus: Bus, access: Access, bureau: str) -> Finding | None:
    """What keeps this service from publishing for a bureau; None: nothing."""
    look = "nats permissions"
    try:
        await bus.check_publishing(head_subject(access.site, bureau))
    except NotPermitted:
        return fail(
            look,
            Both(
                f"The site does not let {access.user} publish for {bureau}.",
                f"站点不允许 {access.user} 为单位 {bureau} 发布。",
            ),
            Both(
                "Add the bureau to this user in the site's configuration and send the server a SIGHUP.",
                "请在站点配置中为该用户加入此单位，并向服务器发送 SIGHUP。",
            ),
        )
    except BusError as failure:
        return fail(
            look,
            Both(f"Publishing for {bureau} does not work: {failure}", f"无法为单位 {bureau} 发布（{failure}）。"),
            Both("Look at the server's log.", "请查看服务器日志。"),
        )
    return None


async def peers(me: Me, asked: dict[str, Asked]) -> list[Finding]:
    """Other bureaus' nodes, each as the module says; those without an endpoint in the tree are named."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(code: str) -> list[Finding]:
        async with slots:
            return await _peer(me, code, asked[code])

    return [finding for found in await asyncio.gather(*map(one, asked)) for finding in found]


async def _peer(me: Me, code: str, asked: Asked) -> list[Finding]:
    look = f"peer {code}"
    endpoint = me.tree.get(code).endpoint
    if not endpoint:
        said = Both(f"The tree gives no endpoint for {code}.", f"机构树未列出 {code} 的节点地址。")
        remedy = Both(
            "Have headquarters publish a tree with it (kx supervise publish-tree).",
            "请由总局发布含该地址的机构树（kx supervise publish-tree）。",
        )
        return [fail(look, said, remedy)]
    try:
        credentials = pki.load(me.certificates)
        shown = await asyncio.to_thread(_handshake, endpoint, code, me.certificates)
    except pki.PkiError:
        return []  # said of the certificate itself
    except OSError as failure:
        return [_not_reached(look, endpoint, failure)]
    found = _held_against(look, code, shown, me)
    async with tls.channel_to(endpoint, pki.dns_name("node", code), credentials) as channel:
        found += await _answers(look, endpoint, code, channel, asked)
    return found


def _handshake(endpoint: str, code: str, paths: CertificatePaths) -> x509.Certificate:
    """The certificate that a peer shows, chain and name verified. Raises `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(paths.ca))
    context.load_cert_chain(paths.certificate, paths.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = endpoint.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_MAX) as plain,
        context.wrap_socket(plain, server_hostname=pki.dns_name("node", code)) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None  # noqa: S101 - without one the handshake has failed
    return x509.load_der_x509_certificate(der)


def _not_reached(look: str, endpoint: str, failure: Exception) -> Finding:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return fail(
            look,
            Both(
                f"{endpoint} shows a certificate that is not the bureau's: {failure.verify_message}.",
                f"{endpoint} 出示的证书不属于该单位（{failure.verify_message}）。",
            ),
            Both(
                "If both have the same authority, somebody else answers there: see the tree's endpoint; else see that "
                "both have the same ca.crt.",
                "如双方颁发机构相同，则该地址由他人应答，请核对机构树地址；否则请核对双方 ca.crt。",
            ),
        )
    if isinstance(failure, ssl.SSLError):
        return fail(
            look,
            Both(
                f"{endpoint} does not finish the TLS handshake: {failure.reason}.",
                f"{endpoint} 未完成 TLS 握手（{failure.reason}）。",
            ),
            Both(
                "See that a node listens there, and that its ca.crt has issued this certificate.",
                "请确认该地址为节点，且其 ca.crt 签发了本证书。",
            ),
        )
    why = str(failure) or type(failure).__name__
    return warn(
        look,
        Both(f"{endpoint} cannot be reached: {why}.", f"{endpoint} 无法连接（{why}）。"),
        Both(
            "What is for it waits and is delivered later. See name resolution, firewall, and that the node runs.",
            "发往该单位的事项将等待并补送。请检查域名解析、防火墙及对方节点。",
        ),
    )


def _held_against(look: str, code: str, shown: x509.Certificate, me: Me) -> list[Finding]:
    """What lists and dates hold against a certificate that a peer shows."""
    peer = tls.peer_of_certificate(shown)
    found: list[Finding] = []
    replace = Both(
        f"Tell those who run {code}'s node: it must show another certificate.", f"请通知 {code} 的运维人员更换证书。"
    )
    pinned = me.tree.get(code).fingerprints
    if pinned and peer.fingerprint not in pinned:
        said = Both(
            f"It shows the certificate {peer.fingerprint[:16]}…, which the tree does not list.",
            f"出示的证书 {peer.fingerprint[:16]}… 不在机构树所列之中。",
        )
        found.append(fail(f"{look} fingerprint", said, replace))
    if shown.serial_number in revocation.load_revocations(me.certificates.ca).serials:
        serial = revocation.serial_text(shown.serial_number)
        found.append(fail(f"{look} certificate", Both(f"{serial} is revoked.", f"{serial} 已被吊销。"), replace))
    ends = shown.not_valid_after_utc
    if ends - datetime.now(UTC) < EXPIRES_WITHIN:
        found.append(
            warn(f"{look} certificate", Both(f"Expires on {ends:%Y-%m-%d}.", f"将于 {ends:%Y-%m-%d} 过期。"), replace)
        )
    return found


async def _answers(look: str, endpoint: str, code: str, channel: grpc.aio.Channel, asked: Asked) -> list[Finding]:
    """What a peer says when it is asked how it is."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    before = now()
    try:
        call = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
        told = {key: str(value) for key, value in await call.initial_metadata()}
        answer = await call
    except grpc.aio.AioRpcError as failure:
        return [
            fail(
                look,
                Both(
                    f"{endpoint} does not answer: {failure.code().name}.",
                    f"{endpoint} 没有应答（{failure.code().name}）。",
                ),
                Both(
                    "See the log of its node; its ca.crt must have issued this certificate.",
                    "请查看对方节点日志；其 ca.crt 须签发了本证书。",
                ),
            )
        ]
    after = now()
    found = []
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        found.append(ok(look, f"{endpoint} serves.", f"{endpoint} 正常服务。"))
    else:
        said = Both(f"{endpoint} answers and does not serve now.", f"{endpoint} 有应答，但当前不提供服务。")
        found.append(warn(look, said, Both("See the log of its node.", "请查看对方节点日志。")))
    found += _version(look, told.get(VERSION_KEY, ""))
    found += _clock(look, told.get(TIME_KEY, ""), before, after)
    found += await _believes(look, code, channel, asked)
    return found


def _version(look: str, theirs: str) -> list[Finding]:
    own = product_version()
    if theirs == own:
        return []
    said = Both(
        f"It is of version {theirs or 'unknown'}, this one of {own}.", f"对方版本 {theirs or '未知'}，本方 {own}。"
    )
    remedy = Both(
        "Neighbouring versions work together; bring both to the same one within the upgrade's window.",
        "相邻版本可以互通；请在升级窗口内统一版本。",
    )
    return [warn(f"{look} version", said, remedy)]


def _clock(look: str, told: str, before: float, after: float) -> list[Finding]:
    """How far the peer's clock is off: it was read somewhere between the question and the answer."""
    if not told.isdecimal():
        return []
    theirs = int(told) / 1e6
    off = theirs - after if theirs > after else theirs - before if theirs < before else 0.0
    said = Both(f"Its clock is {off:+.1f} s off this machine's.", f"对方时钟与本机相差 {off:+.1f} 秒。")
    remedy = Both(
        "Have both machines follow the same time servers (chronyc tracking).",
        "请使两机使用同一时间源（chronyc tracking）。",
    )
    if abs(off) > SKEW_SECONDS_FAIL:
        return [fail(f"{look} clock", said, remedy)]
    return [warn(f"{look} clock", said, remedy)] if abs(off) > SKEW_SECONDS_MAX else []


def _held_to(asked: Asked, witness: str, answer: cosign_pb2.GetCosignedResponse) -> list[Finding]:
    """Whether a ledger has all that its witness has seen of it: the older copy of one that was restored has not."""
    try:
        seen = cosign_pb2.HeadStatement.FromString(answer.head.statement)
    except DecodeError:
        return []  # the node itself holds its witness to its word
    own = asked.end()
    if own is None or own.generation > seen.generation or own.seq >= seen.seq:
        return []
    return [
        fail(
            f"ledger {asked.witness_of}",
            Both(
                f"It ends at entry {own.seq}, and {witness} has cosigned entry {seen.seq}: it is an older copy.",
                f"台账止于第 {own.seq} 条，而单位 {witness} 已见证第 {seen.seq} 条，系旧备份。",
            ),
            Both("Stop the node, run kx node refill, start it again.", "请停止节点，执行 kx node refill，再重新启动。"),
        )
    ]


async def _believes(look: str, code: str, channel: grpc.aio.Channel, asked: Asked) -> list[Finding]:
    """Whether a peer lets this service ask what it must be let ask."""
    try:
        if asked.witness_of:
            request = cosign_pb2.GetCosignedRequest(bureau=asked.witness_of, witness=code)
            answer = await cosign_pb2_grpc.CosignServiceStub(channel).GetCosigned(request, timeout=SECONDS_MAX)
            return await asyncio.to_thread(_held_to, asked, code, answer)
        if asked.head:
            heads = ledger_pb2.GetHeadsRequest(bureaus=[code])
            await ledger_pb2_grpc.LedgerServiceStub(channel).GetHeads(heads, timeout=SECONDS_MAX)
    except grpc.aio.AioRpcError as failure:
        refusal = from_call(failure)
        if refusal is not None:
            return [fail(f"{look} trust", refusal.sentence, refusal.remedy)]
        said = Both(f"It does not answer a call: {failure.code().name}.", f"调用没有应答（{failure.code().name}）。")
        return [warn(f"{look} trust", said, Both("See the log of its node.", "请查看对方节点日志。"))]
    return []
