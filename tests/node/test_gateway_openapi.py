"""What the proto says of the door, /v1/openapi.json tells, and it is true: schemathesis asks what it allows and forbids."""

import json
from pathlib import Path
from typing import Any

import anyio.to_thread
import hypothesis
import pytest
import schemathesis
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from jsonschema_rs import validator_for
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from kuaixiang.domain.labels import name
from kuaixiang.domain.registration import (
    NAME_CHARACTERS_MAX,
    NOTE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
)
from kuaixiang.domain.words import Category, Channel, ClockKind, Stage
from kuaixiang.text.columns import TITLES
from kuaixiang.wire.registrations import CSV, NDJSON, XLSX
from kuaixiang.wire.v1 import case_pb2, channel_pb2, common_pb2
from node.channels.gateway import SERVICE, calls_of
from node.channels.hand_in_api import LINE, with_hand_ins
from node.channels.intake import ADDRESS, OF_FINISHED
from node.channels.messages import http_of, words_of
from node.channels.openapi import document
from node.ledger.queries import PAGE_SIZE_MAX
from node.settings import NodeSettings
from tests.node.gateways import REQUEST, Gateway, with_gateway

EXAMPLES = 8
"""For each operation."""


@schemathesis.serializer(CSV, XLSX, NDJSON)
def file_of(_: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.deserializer(NDJSON)
def lines_of(_: Any, response: Any) -> str:
    return str(response.content.decode())


def hold_lines(answer: Any) -> list[dict[str, Any]]:
    """The lines of a hand-in's answer, each as the description says."""
    if answer.status_code != 200:
        return []
    components = described()["components"]
    line = validator_for({"$ref": f"#/components/schemas/{LINE}", "components": components})
    told = [json.loads(one) for one in answer.text.splitlines()]
    for one in told:
        line.validate(one)
    return told


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: it is the description that is tested here."""
    return f"sqlite:///{tmp_path}/node.db"


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path, page_requests_per_second=0, token_calls_per_second=0)


def described() -> dict[str, Any]:
    return with_hand_ins(document(SERVICE, calls_of(SERVICE)))


def test_a_registration_of_a_channel_has_every_field_that_one_over_grpc_has() -> None:
    fields = {field.name for field in case_pb2.RegisterCaseRequest.DESCRIPTOR.fields} - {"header"}
    of_the_header = {"bureau", "actor", "department", "occurred_at", "request_key"}
    assert fields | of_the_header == {
        field.name for field in channel_pb2.ChannelServiceRegisterCaseRequest.DESCRIPTOR.fields
    }
    body = described()["components"]["schemas"]["ChannelServiceRegisterCaseRequest"]
    assert fields | of_the_header - {"request_key"} == set(body["properties"])
    (key,) = described()["paths"]["/v1/cases"]["post"]["parameters"]
    assert ("Idempotency-Key", "header") == (key["name"], key["in"])


def test_the_bounds_of_the_description_are_those_of_the_domain() -> None:
    fields = channel_pb2.ChannelServiceRegisterCaseRequest.DESCRIPTOR.fields_by_name
    for field, most in (
        ("taxpayer_name", NAME_CHARACTERS_MAX),
        ("text", TEXT_CHARACTERS_MAX),
        ("note", NOTE_CHARACTERS_MAX),
        ("channel_reference", REFERENCE_CHARACTERS_MAX),
    ):
        assert most == http_of(fields[field]).characters_max, field
    page_size = channel_pb2.ChannelServiceListCasesRequest.DESCRIPTOR.fields_by_name["page_size"]
    assert PAGE_SIZE_MAX == http_of(page_size).maximum


@pytest.mark.parametrize("kind", [Category, Channel, ClockKind, Stage])
def test_words_are_those_of_the_command_line(kind: Any) -> None:
    assert {name(word): int(word) for word in kind} == words_of(common_pb2.DESCRIPTOR.enum_types_by_name[kind.__name__])


def test_every_call_field_and_message_is_described() -> None:
    said = described()
    operations = [one for path in said["paths"].values() for one in path.values()]
    assert all(one["summary"] for one in operations)
    assert said["info"]["description"]
    assert {"registerCase", "listCases", "getCase", "listCaseChanges", "listCategories", "handIn"} == {
        one["operationId"] for one in operations
    }


def test_a_call_that_is_added_to_the_proto_is_a_route_and_is_described() -> None:
    file = FileDescriptorProto(name="added.proto", package="added", syntax="proto3")
    file.dependency.append("kuaixiang/wire/v1/channel.proto")
    service = file.service.add(name="AddedService")
    method = service.method.add(
        name="WithdrawCase",
        input_type=".kuaixiang.wire.v1.ChannelServiceGetCaseRequest",
        output_type=".kuaixiang.wire.v1.ChannelServiceGetCaseResponse",
    )
    rule = method.options.Extensions[annotations_pb2.http]
    rule.post, rule.body, rule.response_body = "/v1/cases/{case_id}/withdrawal", "*", "case"
    added = descriptor_pool.Default().AddSerializedFile(file.SerializeToString()).services_by_name["AddedService"]
    (call,) = calls_of(added)
    assert ("POST", "/v1/cases/{case_id}/withdrawal", ["case_id"]) == (
        call.verb,
        call.address,
        [field.name for field in call.in_path],
    )
    (said,) = document(added, (call,))["paths"].values()
    assert "withdrawCase" == said["post"]["operationId"]
    assert [("case_id", "path", True)] == [
        (one["name"], one["in"], one["required"]) for one in said["post"]["parameters"]
    ]


async def test_what_the_description_shows_of_a_file_is_handed_in_as_it_stands_there(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        told = (await program.get("/v1/openapi.json")).json()
        components = told["components"]
        for kind, body in told["paths"][ADDRESS]["post"]["requestBody"]["content"].items():
            if "example" not in body:
                continue
            answer = await program.post(ADDRESS, content=body["example"], headers={"Content-Type": kind})
            row, whole = hold_lines(answer)
            assert ("R-1001", "registered", 1, True) == (row["reference"], row["result"], whole["rows"], whole["end"])
            if kind == NDJSON:
                schema = {"components": components} | body["schema"]["contentSchema"]
                validator_for(schema).validate(json.loads(body["example"]))
        refused = await program.post(ADDRESS, content='{"text": 7}\n[]', headers={"Content-Type": NDJSON})
        assert ["refused", "refused"] == [one["result"] for one in hold_lines(refused)[:-1]]
        # The body was said to be what it is: what is wrong is the line.
        assert "Content-Type" not in hold_lines(refused)[1]["remedy"]
        wrong = {"row": 1, "reference": "", "result": "registered"}
        line = validator_for({"$ref": f"#/components/schemas/{LINE}", "components": components})
        assert not line.is_valid(wrong)


def test_each_column_that_a_table_may_have_is_described() -> None:
    for kind in (CSV, XLSX):
        said = described()["paths"][ADDRESS]["post"]["requestBody"]["content"][kind]["schema"]["description"]
        for field, title in TITLES.items():
            assert (field not in OF_FINISHED) == (f"{title} (or {field})" in said), field


# The node beside it draws chance, too, which hypothesis takes for a strategy's.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
async def test_the_door_answers_as_its_description_says(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        made = await program.post("/v1/cases", json=REQUEST, headers={"Idempotency-Key": "a"})
        assert 201 == made.status_code
        told = (await program.get("/v1/openapi.json")).json()
        assert described() == told
        authorization = program.headers["authorization"]
    await anyio.to_thread.run_sync(hold_to, told, gateway.base, authorization)


def hold_to(told: dict[str, Any], base: str, authorization: str) -> None:
    """Asks every operation, with what the description allows and what it forbids."""
    schema = schemathesis.openapi.from_dict(told)
    schema.config.update(base_url=base)
    seen: set[tuple[str, int]] = set()
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # the description is ours
        for mode in schemathesis.GenerationMode:
            # Where there is nothing to ask for, nothing can be asked wrongly.
            if mode is schemathesis.GenerationMode.POSITIVE or operation.path != "/v1/categories":
                seen |= asked(operation, mode, authorization)
    answered = {path for path, status in seen if status in {200, 201}}
    assert {"/v1/cases", "/v1/categories", "/v1/intakes"} <= answered, seen
    assert 422 in {status for _, status in seen}, seen


def asked(operation: Any, mode: schemathesis.GenerationMode, authorization: str) -> set[tuple[str, int]]:
    """Path and status of each answer, which was as the description says."""
    seen: set[tuple[str, int]] = set()

    @hypothesis.seed(1)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def hold(case: Any) -> None:
        answer = case.call(headers={"Authorization": authorization})
        # That a contact can be used, a number has its check character and a key is there besides, no schema says.
        excluded = [positive_data_acceptance]
        if operation.path == ADDRESS:
            # Of bytes each may be a file: of a line that is none the line is refused.
            excluded.append(negative_data_rejection)
            hold_lines(answer)
        case.validate_response(answer, excluded_checks=excluded)
        seen.add((operation.path, answer.status_code))

    hold()
    return seen
