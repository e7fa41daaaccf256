"""What /v1/openapi.json says of the door is true: requests that it allows and forbids, made by schemathesis."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kuaixiang.wire.v1 import case_pb2
from node import service
from node.channels.openapi import document
from node.channels.requests import REGISTRATION
from node.settings import NodeSettings
from tests.node.callers import Callers
from tests.node.gateways import REQUEST, Gateway, with_gateway

EXAMPLES = 8
"""For each operation."""


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: it is the description that is tested here."""
    return f"sqlite:///{tmp_path}/node.db"


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path, page_requests_per_second=0, token_calls_per_second=0)


@pytest.fixture
async def node(settings: NodeSettings) -> AsyncIterator[service.Running]:
    async with service.running(settings) as running:
        yield running


@pytest.fixture
def gateway(node: service.Running, callers: Callers) -> Gateway:
    return Gateway(node, callers)


def test_the_description_has_every_field_of_a_registration() -> None:
    fields = {field.name for field in case_pb2.RegisterCaseRequest.DESCRIPTOR.fields} - {"header"}
    of_the_header = {"bureau", "actor", "department", "occurred_at"}
    assert fields | of_the_header == set(REGISTRATION)
    assert set(REGISTRATION) == set(document()["components"]["schemas"]["Registration"]["properties"])


async def test_the_door_answers_as_its_description_says(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        made = await program.post("/v1/cases", json=REQUEST, headers={"Idempotency-Key": "a"})
        assert 201 == made.status_code
        described = (await program.get("/v1/openapi.json")).json()
        assert document() == described
        authorization = program.headers["authorization"]
    await anyio.to_thread.run_sync(hold_to, described, gateway.base, authorization)


def hold_to(described: dict[str, Any], base: str, authorization: str) -> None:
    """Asks every operation, with what the description allows and what it forbids."""
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=base)
    seen: set[tuple[str, int]] = set()
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # the description is ours
        for mode in schemathesis.GenerationMode:
            if mode is schemathesis.GenerationMode.POSITIVE or operation.path != "/v1/categories":
                seen |= asked(operation, mode, authorization)
    assert {"/v1/cases", "/v1/categories"} <= {path for path, status in seen if status in {200, 201}}, seen
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
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        seen.add((operation.path, answer.status_code))

    hold()
    return seen
