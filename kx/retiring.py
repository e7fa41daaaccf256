"""`kx doctor retire`: whether a dissolved 撤并 bureau's node can be stopped for good, and what is in the way.

Looked at are the tree in force, the bureau's own ledger, what its neighbours' ledgers say of what the two share, and
the hubs that count it. Its own database is read as the doctor reads it, whether the service runs or not; nothing is
changed.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import grpc
import grpc.aio
import sqlalchemy as sa

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, listed
from kuaixiang.domain.lifecycle import HANDLED_HERE
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.witness import witnesses_of
from kuaixiang.domain.words import Custody, ReferralState, Stage
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.clock import clock_from
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.wire.chain import GENESIS
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import reconciliation_pb2 as pairs_pb
from kuaixiang.wire.v1 import statistics_pb2 as figures_pb
from kuaixiang.wire.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub
from kx import looking_here
from kx.findings import Finding, Verdict, fail, ok
from kx.output import Failed

SECONDS_MAX: Final = 30.0
"""A year of hand-overs of one pair is a question to one index, over a slow line."""
DAYS_LOOKED_BACK: Final = 400
"""What a neighbour offered longer ago and nobody has decided has stood in an alarm for a year; as many days as one
question takes."""
NAMED_MAX: Final = 20
"""Of what is in the way; who has closed these asks again."""


def hubs_of(given: Iterable[str]) -> dict[str, str]:
    """Where the hub of each scope answers, of what was given as CODE=HOST:PORT. Raises `Failed`."""
    found: dict[str, str] = {}
    for one in given:
        code, equals, endpoint = one.partition("=")
        if not (code.isdecimal() and equals and endpoint.rpartition(":")[2].isdecimal()):
            raise Failed(
                Both(
                    f"{one} is not CODE=HOST:PORT, with the scope of a hub.",
                    f"“{one}”不是“汇总范围代码=主机:端口”的形式。",
                ),
                field="--hub",
                rule="NotAHub",
            )
        found[code] = endpoint
    return found


def examined(settings: Any, bureau: str, hubs: Mapping[str, str]) -> Iterator[Finding]:  # noqa: ANN401 - NodeSettings
    """What stands between a bureau and its end; the last finding says whether anything does."""
    if bureau not in settings.bureaus:
        said = Both(f"The node does not keep the ledger of {bureau}.", f"本节点不承载单位 {bureau} 的台账。")
        yield fail("ledger", said, Both("Ask at the node that does.", "请在承载该台账的节点上执行。"))
        return
    kept = _kept(settings.database, bureau)
    if kept is None:
        said = Both(f"The ledger of {bureau} cannot be read.", f"单位 {bureau} 的台账无法读取。")
        yield fail("ledger", said, Both("See kx doctor node.", "请先执行 kx doctor node。"))
        return
    tree = looking_here.tree_in_force(settings.load_tree(), settings.database, "node")
    me = _Me(settings.certificate_paths, bureau, tree, kept.end)
    found = [
        _dissolved(tree, bureau),
        *_cases(kept, tree.get(bureau).successor),
        *_orders(kept, bureau),
        *_owed(kept, bureau),
        *_callbacks(kept),
        *_differences(kept),
        *_cosigned(kept, witnesses_of(tree, bureau, settings.bureaus)),
    ]
    peers = [code for code in _neighbours(tree, bureau) if code not in settings.bureaus]
    today = clock_from(settings.clock).now().astimezone(SHANGHAI)
    found += asyncio.run(_around(me, peers, hubs, today))
    found += _moved(kept.end, looking_here.end_of(settings.database, bureau))
    yield from found
    yield _conclusion(bureau, found)


# ---------------------------------------------------------------- what the ledger has


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a journal."""

    generation: int
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    """What of a bureau's ledger is not at its end: rows of its projections."""

    end: _End
    cases: Sequence[Any]
    orders: Sequence[Any]
    owed: Sequence[Any]
    callbacks: Sequence[Any]
    mismatches: Sequence[Any]
    cosigned: Mapping[str, _End]


def _kept(database: str, bureau: str) -> _Kept | None:
    """What is kept of a bureau that is not at its end; None where it cannot be read."""
    from node.ledger import schema
    from node.ledger.ledger import FIRST_GENERATION

    ends, cases, orders, deliveries = schema.BUREAUS.c, schema.CASES.c, schema.ORDERS.c, schema.DELIVERIES.c
    callbacks, mismatches, cosigned = schema.CALLBACKS.c, schema.MISMATCHES.c, schema.COSIGNED.c
    try:
        with looking_here.reading(database) as connection:
            end = connection.execute(
                sa.select(ends.generation, ends.seq, ends.hash).where(ends.bureau == bureau)
            ).one_or_none()

            def rows(*what: sa.ColumnElement[Any], where: sa.ColumnElement[bool]) -> Sequence[Any]:
                return connection.execute(sa.select(*what).where(where).order_by(*what)).all()

            of_ours = deliveries.bureau == bureau
            return _Kept(
                # Of a bureau that has never recorded anything there is no row.
                end=_End(FIRST_GENERATION, 0, GENESIS)
                if end is None
                else _End(end.generation, end.seq, bytes(end.hash)),
                cases=rows(
                    cases.case_id,
                    cases.stage,
                    cases.custody,
                    cases.with_bureau,
                    where=(cases.bureau == bureau) & (cases.stage != int(Stage.WRITTEN_OFF)),
                ),
                orders=rows(
                    orders.order_id,
                    orders.issuer,
                    orders.final_bureau,
                    where=(orders.bureau == bureau) & (orders.open == 1),
                ),
                # What a bureau of the same node owes it is in the same table.
                owed=rows(
                    deliveries.bureau, deliveries.peer, deliveries.case_id, where=of_ours | (deliveries.peer == bureau)
                ),
                callbacks=rows(callbacks.case_id, callbacks.dead, where=callbacks.bureau == bureau),
                mismatches=rows(mismatches.case_id, mismatches.peer, where=mismatches.bureau == bureau),
                cosigned={
                    row.witness: _End(row.generation, row.seq, bytes(row.hash))
                    for row in rows(
                        cosigned.witness,
                        cosigned.generation,
                        cosigned.seq,
                        cosigned.hash,
                        where=cosigned.bureau == bureau,
                    )
                },
            )
    except (sa.exc.DBAPIError, sqlite3.Error):
        return None


def _dissolved(tree: BureauTree, bureau: str) -> Finding:
    successor = tree.get(bureau).successor
    if successor:
        return ok(
            "tree",
            f"By tree {tree.version}, {successor} carries on for {bureau}.",
            f"机构树 {tree.version} 已载明：单位 {bureau} 由 {successor} 承接。",
        )
    return fail(
        "tree",
        Both(
            f"Tree {tree.version} does not say who carries on for {bureau}: it takes new requests.",
            f"机构树 {tree.version} 未载明单位 {bureau} 的承接单位，该单位仍在受理。",
        ),
        Both(
            "Have headquarters publish an edition with its successor (docs/OPERATING.md#merge-two-bureaus-撤并).",
            "请由总局发布写明承接单位的机构树（见 docs/OPERATING.md“撤并”）。",
        ),
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """Cases that wait for the same: how the finding is called, what they are, and what is to be done."""

    look: str
    english: str
    chinese: str
    remedy: Both


_OURS: Final = _Way(
    "cases open",
    "have no answer yet",
    "尚未办结",
    Both("Hand them over: kx case hand-over --to {successor}.", "请移交承接单位：kx case hand-over --to {successor}。"),
)
_DEFERRED: Final = _Way(
    "cases deferred",
    "are deferred",
    "处于待条件成熟",
    Both(
        "Resume them (kx case resume), then hand them over to {successor}.",
        "请恢复办理（kx case resume），再移交 {successor}。",
    ),
)
_UNTOLD: Final = _Way(
    "cases without feedback",
    "are complete, and the taxpayer was not told",
    "已办结，尚未反馈纳税人",
    Both("Tell the taxpayer: kx case feedback.", "请反馈纳税人：kx case feedback。"),
)
_OFFERED: Final = _Way(
    "cases offered",
    "are on their way, and the next bureau has not decided",
    "正在移交，对方尚未接收",
    Both(
        "It is repeated until the next bureau's node answers; kx doctor node says why it does not.",
        "系统将持续重发；如长时间未接收，请用 kx doctor node 检查对方节点。",
    ),
)
_ELSEWHERE: Final = _Way(
    "cases elsewhere",
    "were handed over, and their result has not come back",
    "已移交，结果尚未返回",
    Both(
        "Wait until they are answered there; kx case show says where each is. Their superior can urge.",
        "请等待办理结果；可用 kx case show 查看所在单位，并由上级催办。",
    ),
)
_ANSWERED: Final = _Way(
    "cases to write off",
    "are answered and not written off",
    "已反馈，尚未销号",
    Both(
        "Follow up what is to be followed up, then kx case write-off --all-ready.",
        "请完成回访，再执行 kx case write-off --all-ready。",
    ),
)
_WAYS: Final = (_OURS, _DEFERRED, _UNTOLD, _OFFERED, _ELSEWHERE, _ANSWERED)


def _way_of(custody: Custody, stage: Stage) -> _Way:
    if custody is Custody.OFFERED:
        return _OFFERED
    if stage is Stage.REFERRED:
        return _ELSEWHERE
    if stage is Stage.DEFERRED:
        return _DEFERRED
    if stage is Stage.COMPLETED:
        return _UNTOLD
    return _OURS if stage in HANDLED_HERE else _ANSWERED


def _cases(kept: _Kept, successor: str) -> Iterator[Finding]:
    if not kept.cases:
        yield ok("cases", "Every case is written off.", "全部诉求均已销号。")
        return
    waiting: dict[str, list[str]] = {}
    for row in kept.cases:
        waiting.setdefault(_way_of(Custody(row.custody), Stage(row.stage)).look, []).append(row.case_id)
    to = successor or "CODE"
    for way in _WAYS:
        if found := waiting.get(way.look):
            remedy = Both(*(text.format(successor=to) for text in way.remedy))
            yield fail(way.look, _some(found, way.english, way.chinese, "case(s)", "件诉求"), remedy)


def _orders(kept: _Kept, bureau: str) -> Iterator[Finding]:
    ways = (
        (
            "orders received",
            [row.order_id for row in kept.orders if row.final_bureau == bureau],
            ("wait for this bureau's answer, or for its acceptance", "尚待本单位回复，或者回复尚待认可"),
            Both(
                "Answer them (kx supervise answer); their issuer accepts the answers, or cancels them.",
                "请回复（kx supervise answer），并由下达单位认可或撤销。",
            ),
        ),
        (
            "orders issued",
            [row.order_id for row in kept.orders if row.issuer == bureau],
            ("were issued by this bureau and are open", "由本单位下达，尚未办结"),
            Both(
                "Accept their answers (kx supervise accept) or cancel them (kx supervise cancel).",
                "请认可回复（kx supervise accept）或者撤销（kx supervise cancel）。",
            ),
        ),
        (
            "orders passing",
            [row.order_id for row in kept.orders if bureau not in {row.final_bureau, row.issuer}],
            ("pass through this bureau and are open", "经本单位转递，尚未办结"),
            Both("Their issuer accepts the answers, or cancels them.", "请由下达单位认可回复或者撤销。"),
        ),
    )
    for look, found, (english, chinese), remedy in ways:
        if found:
            yield fail(look, _some(found, english, chinese, "order(s)", "件督办"), remedy)
    if not kept.orders:
        yield ok("orders", "No supervision order is open.", "没有未办结的督办。")


def _owed(kept: _Kept, bureau: str) -> Iterator[Finding]:
    by_peer: dict[tuple[str, str], list[str]] = {}
    for row in kept.owed:
        by_peer.setdefault((row.bureau, row.peer), []).append(row.case_id)
    remedy = Both(
        "It is repeated until the other one's node answers; kx doctor node says why it does not.",
        "系统将持续重发；如长时间未送达，请用 kx doctor node 检查对方节点。",
    )
    for (owes, to), found in sorted(by_peer.items()):
        look = f"owed to {to}" if owes == bureau else f"owed by {owes}"
        yield fail(look, _some(found, "are still to be told", "尚待告知", "case(s) or order(s)", "件"), remedy)
    if not by_peer:
        yield ok("owed", "Nothing is owed to a neighbour.", "没有尚待送达相邻单位的内容。")


def _callbacks(kept: _Kept) -> Iterator[Finding]:
    if not kept.callbacks:
        yield ok("callbacks", "Channels and taxpayers have been told all.", "应告知渠道和纳税人的均已告知。")
        return
    found = sorted({row.case_id for row in kept.callbacks})
    yield fail(
        "callbacks",
        _some(
            found, "have something that was not told to a channel or a taxpayer", "尚有未告知的内容", "case(s)", "件"
        ),
        Both(
            "Let it be told, or look at kx hooks list, and have it tried again or drop it.",
            "请等待告知完成；未能告知的用 kx hooks list 查看，重试或者放弃。",
        ),
    )


def _differences(kept: _Kept) -> Iterator[Finding]:
    if not kept.mismatches:
        return
    found = [f"{row.case_id} ({row.peer})" for row in kept.mismatches]
    yield fail(
        "differences",
        _some(found, "differ from a neighbour's ledger", "与相邻单位台账不符", "case(s)", "件诉求"),
        Both(
            "See docs/RUNBOOKS.md#kxledgersdiffer, then kx reconcile.",
            "请按 docs/RUNBOOKS.md 处理，再执行 kx reconcile。",
        ),
    )


def _cosigned(kept: _Kept, witnesses: Sequence[str]) -> Iterator[Finding]:
    for witness in witnesses:
        seen = kept.cosigned.get(witness)
        if seen == kept.end or not kept.end.seq:
            yield ok(
                f"witness {witness}",
                f"It has cosigned the ledger to its end, entry {kept.end.seq}, and keeps the entries.",
                f"已见证至台账末尾第 {kept.end.seq} 条，并保存其日志。",
            )
            continue
        reached = seen.seq if seen is not None else 0
        yield fail(
            f"witness {witness}",
            Both(
                f"It has cosigned entry {reached} of {kept.end.seq}: the rest is in this database alone.",
                f"仅见证至第 {reached} 条，台账共 {kept.end.seq} 条，其余仅存于本库。",
            ),
            Both(
                "Leave the node running until its superior's node has answered; kx doctor node says why it does not.",
                "请保持节点运行，待上级节点见证；如未见证，请用 kx doctor node 检查。",
            ),
        )


def _moved(before: _End, now: tuple[int, int] | None) -> Iterator[Finding]:
    """What a neighbour has told it since it was read is in neither of the two ledgers as they were looked at."""
    if now == (before.generation, before.seq) or (now is None and not before.seq):
        return
    yield fail(
        "ledger",
        Both("It has changed while it was looked at.", "查看期间台账有新的记录。"),
        Both("Ask again.", "请重新执行。"),
    )


# ---------------------------------------------------------------- what others say


@dataclass(frozen=True, slots=True)
class _Me:
    """Who asks: by which certificate, for which bureau, whose ledger ends where."""

    certificates: CertificatePaths
    bureau: str
    tree: BureauTree
    end: _End


def _neighbours(tree: BureauTree, bureau: str) -> list[str]:
    """Who shares cases with it, but for those below it that were retired before."""
    return [code for code in tree.neighbours(bureau) if not tree.retired(code)]


async def _around(me: _Me, peers: Sequence[str], hubs: Mapping[str, str], today: datetime) -> list[Finding]:
    asked = (
        *(_peer(me, code, today) for code in peers),
        *(_hub(me, scope, endpoint) for scope, endpoint in hubs.items()),
    )
    return list(await asyncio.gather(*asked))


async def _peer(me: _Me, code: str, today: datetime) -> Finding:
    """What a neighbour has still to say to the bureau, by the neighbour's own ledger."""
    look, endpoint = f"peer {code}", me.tree.get(code).endpoint
    if not endpoint:
        return _not_asked(look, Both("the tree gives no endpoint for it", "机构树未列出其节点地址"))
    of_both: dict[str, Any] = {"bureau": code, "peer": me.bureau}
    period = pairs_pb.GetPairDigestsRequest(
        **of_both,
        from_day=(today - timedelta(days=DAYS_LOOKED_BACK - 1)).date().isoformat(),
        to_day=today.date().isoformat(),
    )
    waiting: set[str] = set()
    try:
        async with _channel(endpoint, "node", code, me.certificates) as channel:
            ask: Any = ReconciliationServiceStub(channel)
            days = await ask.GetPairDigests(period, timeout=SECONDS_MAX)
            request = pairs_pb.ReadPairRecordsRequest(**of_both, days=[one.day for one in days.days])
            async for answer in ask.ReadPairRecords(request, timeout=SECONDS_MAX):
                waiting |= {one.case_id for one in answer.records if _is_unsettled(one)}
    except (grpc.aio.AioRpcError, pki.PkiError) as failure:
        return _not_asked(look, _why(failure))
    if not waiting:
        return ok(look, "Its ledger has nothing for this bureau.", "对方台账没有尚待告知本单位的内容。")
    return fail(
        look,
        _some(sorted(waiting), "are not settled in its ledger", "在对方台账中尚未了结", "case(s)", "件诉求"),
        Both("Leave this node running: what is for it comes by itself.", "请保持本节点运行，相关内容将自动送达。"),
    )


def _is_unsettled(record: pairs_pb.PairRecord) -> bool:
    """Whether a hand-over is not decided as its neighbour knows, or something of its case is still to be told."""
    return int(record.state) in {ReferralState.OFFERED, ReferralState.WITHDRAWING} or record.pending_since_us != 0


async def _hub(me: _Me, scope: str, endpoint: str) -> Finding:
    """Whether a hub has all of the ledger, and goes on expecting the bureau."""
    look = f"hub {scope}"
    try:
        async with _channel(endpoint, "hub", scope, me.certificates) as channel:
            ask: Any = StatisticsServiceStub(channel)
            request = figures_pb.GetCompletenessRequest(scope=me.bureau)
            answer = await ask.GetCompleteness(request, timeout=SECONDS_MAX)
    except (grpc.aio.AioRpcError, pki.PkiError) as failure:
        return _not_asked(look, _why(failure))
    mark = next((one for one in answer.marks if one.bureau == me.bureau), figures_pb.BureauMark())
    lacking = _lacking(look, me.end, mark)
    if lacking is not None:
        return lacking
    if answer.completeness.bureaus_expected:
        below = [one.bureau for one in answer.marks if one.bureau != me.bureau]
        return fail(
            look,
            Both(
                f"It has all {mark.seq} entries and goes on expecting the bureau"
                + (f", or one under it ({', '.join(below)})." if below else "."),
                f"已有全部 {mark.seq} 条，但仍要求该单位"
                + (f"或其下级（{listed(below)}）" if below else "")
                + "报送。",
            ),
            Both(
                "As long as a case of theirs is open it does; and until it has the tree that names the successor.",
                "其诉求尚未全部销号，或者汇总中心尚未采用载明承接单位的机构树。",
            ),
        )
    return ok(
        look,
        f"It has all {mark.seq} entries and expects nothing more; what was counted stays counted.",
        f"已有全部 {mark.seq} 条，不再要求报送；已统计的数据保留。",
    )


def _lacking(look: str, end: _End, mark: figures_pb.BureauMark) -> Finding | None:
    """What a hub has not of a ledger that ends there, or has of another one; None where it has all of it."""
    against = mark.quarantine or mark.restored
    if against:
        said = Both(f"Something stands against the ledger: {against}.", f"台账存疑（{against}）。")
        return fail(look, said, Both("See docs/RUNBOOKS.md.", "请按 docs/RUNBOOKS.md 处理。"))
    if (mark.generation, mark.seq) < (end.generation, end.seq):
        return fail(
            look,
            Both(
                f"It has folded {mark.seq} of {end.seq} entries.",
                f"已汇总 {mark.seq} 条，台账共 {end.seq} 条。",
            ),
            Both(
                "Leave the node running until the hub has all of it: seconds, where NATS and the hub run.",
                "请保持节点运行，待汇总中心取得全部日志（NATS 与汇总中心正常时只需数秒）。",
            ),
        )
    if (mark.generation, mark.seq) > (end.generation, end.seq):
        said = Both(
            f"It has folded {mark.seq} entries, and the ledger here ends at {end.seq}.",
            f"汇总中心已汇总 {mark.seq} 条，本库台账仅 {end.seq} 条。",
        )
        remedy = Both(
            "Ask again; if it stays so, this database is an older copy: see docs/RUNBOOKS.md#kxledgerforked.",
            "请重新执行；如仍不一致，本库为较旧的副本，请按 docs/RUNBOOKS.md 处理。",
        )
        return fail(look, said, remedy)
    if mark.hash != end.hash:
        said = Both("It has folded another ledger than this one.", "汇总中心所汇总的台账与本台账不一致。")
        return fail(look, said, Both("See docs/RUNBOOKS.md#kxledgerforked.", "请按 docs/RUNBOOKS.md 处理。"))
    return None


def _channel(endpoint: str, kind: pki.Kind, code: str, certificates: CertificatePaths) -> Any:  # noqa: ANN401 - grpc.aio's
    return tls.channel_to(endpoint, pki.dns_name(kind, code), pki.load(certificates))


def _why(failure: Exception) -> Both:
    if not isinstance(failure, grpc.aio.AioRpcError):
        return Both(str(failure), str(failure))
    refusal = from_call(failure)
    if refusal is not None:
        return Both(refusal.sentence.english.rstrip("."), refusal.sentence.chinese.rstrip("。"))
    return Both(failure.code().name, failure.code().name)


def _not_asked(look: str, why: Both) -> Finding:
    return fail(
        look,
        Both(f"It could not be asked: {why.english}.", f"未能查询（{why.chinese}）。"),
        Both("Ask again when it answers.", "请待其恢复后重新执行。"),
    )


# ---------------------------------------------------------------- saying it


def _some(found: Sequence[str], english: str, chinese: str, units: str, unit: str) -> Both:
    named, more = found[:NAMED_MAX], len(found) - NAMED_MAX
    return Both(
        f"{len(found)} {units} {english}: {', '.join(named)}" + (f" and {more} more." if more > 0 else "."),
        f"{len(found)} {unit}{chinese}：{listed(named)}" + ("等。" if more > 0 else "。"),
    )


def _conclusion(bureau: str, found: Sequence[Finding]) -> Finding:
    in_the_way = sum(one.verdict is not Verdict.OK for one in found)
    if not in_the_way:
        return ok(
            "retire",
            f"Nothing of {bureau} is open: its node can be stopped for good (docs/OPERATING.md#retire-one-停用).",
            f"单位 {bureau} 已无未了事项，可以停用节点（见 docs/OPERATING.md“停用”）。",
        )
    return fail(
        "retire",
        Both(
            f"{bureau} must not be switched off: {in_the_way} thing(s) above are in the way.",
            f"单位 {bureau} 暂不能停用：以上 {in_the_way} 项尚未了结。",
        ),
        Both("See to each of them, then ask again.", "请逐项处理后重新执行。"),
    )
