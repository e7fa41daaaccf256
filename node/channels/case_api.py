"""ChannelService: register a case, see how it goes, list one's own. `gateway` asks it for channels' programs."""

from typing import Any, Final

from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.labels import term
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Stage
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2, channel_pb2, common_pb2
from node.channels.door import Asking
from node.channels.messages import words_of
from node.channels.requests import (
    STAGES_BY_STATUS,
    NotSafeToRepeat,
    PublicCase,
    change_id,
    changes_request,
    copy_given,
    public,
    registration,
    status_at,
)
from node.desk.asking import Services

OF_ARCHIVE: Final = "archive."
"""What page tokens begin with that go on in the archive, where the other cases are at their end."""
_STATUS: Final[Any] = words_of(channel_pb2.ChannelStatus.DESCRIPTOR)
_STATUS_NAME: Final = {number: name for name, number in _STATUS.items()}


class ChannelServicer:
    """Answers by what CaseService answers to a token, in the words of ChannelService."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def RegisterCase(
        self, request: channel_pb2.ChannelServiceRegisterCaseRequest, asking: Asking
    ) -> channel_pb2.ChannelServiceRegisterCaseResponse:
        """受理登记 (§四(一)1), once however often it is sent under its key or reference; raises `NotSafeToRepeat`."""
        if not request.request_key and not request.channel_reference:
            raise NotSafeToRepeat

        def make(token: ChannelToken) -> case_pb2.RegisterCaseRequest:
            return registration(self._services, token, request)

        done: case_pb2.ActResponse = await asking.ask("RegisterCase", make)
        return channel_pb2.ChannelServiceRegisterCaseResponse(
            case=self._told(public(done.case)),
            repeated_request=done.repeated_request,
            other_words=done.other_words,
        )

    async def GetCase(
        self, request: channel_pb2.ChannelServiceGetCaseRequest, asking: Asking
    ) -> channel_pb2.ChannelServiceGetCaseResponse:
        """How a case of the token's bureau and channel goes."""

        def make(token: ChannelToken) -> case_pb2.GetCaseRequest:
            return case_pb2.GetCaseRequest(bureau=token.bureau, case_id=request.case_id)

        got: case_pb2.GetCaseResponse = await asking.ask("GetCase", make)
        return channel_pb2.ChannelServiceGetCaseResponse(case=self._told(public(got.case, got.progress)))

    async def ListCases(
        self, request: channel_pb2.ChannelServiceListCasesRequest, asking: Asking
    ) -> channel_pb2.ChannelServiceListCasesResponse:
        """The cases of the token's bureau and channel in pages, nearest deadline first, those of the archive last."""
        in_archive = request.page_token.startswith(OF_ARCHIVE)

        def make(token: ChannelToken) -> case_pb2.ListCasesRequest:
            return _list_request(token, request, in_archive=in_archive)

        got: case_pb2.ListCasesResponse = await asking.ask("ListCases", make)
        rest = got.next_page_token
        if in_archive:
            rest = rest and f"{OF_ARCHIVE}{rest}"
        elif (
            not rest
            and request.status != channel_pb2.CHANNEL_STATUS_OPEN
            and self._services.office.ledger.database.archive.is_there
        ):
            rest = OF_ARCHIVE
        return channel_pb2.ChannelServiceListCasesResponse(
            cases=[self._told(public(case)) for case in got.cases], next_page_token=rest
        )

    async def ListCaseChanges(
        self, request: channel_pb2.ChannelServiceListCaseChangesRequest, asking: Asking
    ) -> channel_pb2.ChannelServiceListCaseChangesResponse:
        """What happened to the cases of the token's bureau and channel in a time, in pages, first to last."""

        def make(token: ChannelToken) -> case_pb2.ListChangesRequest:
            return changes_request(token, request)

        got: case_pb2.ListChangesResponse = await asking.ask("ListChanges", make)
        return channel_pb2.ChannelServiceListCaseChangesResponse(
            changes=map(_change, got.changes), next_page_token=got.next_page_token
        )

    @staticmethod
    async def ListCategories(
        _: channel_pb2.ChannelServiceListCategoriesRequest, __: Asking
    ) -> channel_pb2.ChannelServiceListCategoriesResponse:
        """诉求类别 (§三)."""
        words = words_of(common_pb2.Category.DESCRIPTOR)
        return channel_pb2.ChannelServiceListCategoriesResponse(
            categories=[channel_pb2.CodedName(code=code, name=term(Category(number))) for code, number in words.items()]
        )

    def _told(self, case: PublicCase) -> channel_pb2.ChannelCase:
        return told_case(self._services.office.place.tree, case)


def told_case(tree: BureauTree, case: PublicCase) -> channel_pb2.ChannelCase:
    """A case as channels are told it."""
    words: dict[str, Any] = {"category": case.category, "channel": case.channel, "stage": case.stage}
    found = channel_pb2.ChannelCase(
        case_id=case.case_id,
        bureau=_bureau(tree, case.bureau),
        registered_at=timestamp(case.registered_at),
        changed_at=timestamp(case.changed_at),
        status=_STATUS[case.status],
        stage_name=term(case.stage),
        custodian=_bureau(tree, case.custodian),
        told=case.told,
        extended=case.extended,
        end_to_end_workdays=case.end_to_end_workdays,
        **words,
    )
    if case.deadline is not None:
        clock: Any = case.deadline.clock
        found.deadline.clock = clock
        found.deadline.due_at.CopyFrom(timestamp(case.deadline.due_at))
        found.deadline.provisional = case.deadline.provisional
        found.deadline.overdue = case.deadline.overdue
    return found


def _bureau(tree: BureauTree, code: str) -> channel_pb2.CodedName:
    return channel_pb2.CodedName(code=code, name=tree.get(code).name if code in tree else code)


def _change(change: case_pb2.CaseChange) -> channel_pb2.ChannelChange:
    stage = Stage(change.stage)
    return channel_pb2.ChannelChange(
        change_id=change_id(change),
        case_id=change.case_id,
        status=_STATUS[status_at(stage)],
        stage=change.stage,
        stage_name=term(stage),
        recorded_at=change.recorded_at,
    )


def _list_request(
    token: ChannelToken, asked: channel_pb2.ChannelServiceListCasesRequest, *, in_archive: bool
) -> case_pb2.ListCasesRequest:
    channel: Any = token.channel
    request = case_pb2.ListCasesRequest(
        bureau=token.bureau,
        channel=channel,
        category=asked.category,
        page_size=asked.page_size,
        page_token=asked.page_token.removeprefix(OF_ARCHIVE),
        archived=in_archive,
    )
    if asked.status:
        stages: Any = sorted(STAGES_BY_STATUS[_STATUS_NAME[asked.status]])
        request.stages.extend(stages)
    copy_given(asked, request, "registered_from", "registered_before")
    return request
