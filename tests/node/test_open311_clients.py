"""Programs of others that speak Open311 read and write at the door for channels, as they are."""

import asyncio
from pathlib import Path
from typing import Any

import civicbot.http
import civicbot.open311
import civicbot.registry
import georeport
import pytest

from kuaixiang.domain.words import Category
from node.settings import NodeSettings
from tests.node.callers import COUNTY
from tests.node.gateways import FORM, Gateway, with_gateway


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path)


async def test_civicbot_writes_and_georeport_reads(gateway: Gateway) -> None:
    secret = (await gateway.issue()).secret
    number = await asyncio.to_thread(written_by_civicbot, gateway.base, secret)
    await asyncio.to_thread(read_by_georeport, gateway.base, secret, number)


def written_by_civicbot(base: str, secret: str) -> str:
    """Sends a request, looked at before against what the door says of services and their attributes."""
    endpoint = civicbot.registry.Endpoint("county", "county", f"{base}/open311/v2", write=True)
    program = civicbot.open311.Open311Client(
        endpoint,
        civicbot.http.HttpTransport(rate_limiter=civicbot.http.RateLimiter(min_interval=0)),
        jurisdiction_id=COUNTY,
    )
    attributes = {"taxpayer_name": FORM["attribute[taxpayer_name]"], "contact": FORM["attribute[contact]"]}
    with pytest.raises(civicbot.open311.ValidationError, match="required attribute 'contact'"):
        send(program, secret, attributes={"taxpayer_name": attributes["taxpayer_name"]})
    return str(send(program, secret, attributes=attributes).response[0]["service_request_id"])


def send(program: Any, secret: str, **more: Any) -> Any:
    return program.create_request(
        "policy",
        dry_run=False,
        confirm="SEND",
        api_key=secret,
        validate_remote=True,
        description=FORM["description"],
        address_string=FORM["address_string"],
        **more,
    )


def read_by_georeport(base: str, secret: str, number: str) -> None:
    """Reads what there is in both formats; its way to say who asks is the address."""
    at = base.replace("http://", f"http://website:{secret}@")
    for format_ in ("json", "xml"):
        program = georeport.GeoReport(f"{at}/open311/v2", jurisdiction=COUNTY, output_format=format_)
        assert len(Category) == len(program.get_service_list())
        assert "policy" == program.get_service_definition("policy")["service_code"]
        request: Any = program.get_service_request(number)
        assert (number, "open", "policy") == (
            request["service_request_id"],
            request["status"],
            request["service_code"],
        )
        listed: Any = program.get_service_requests(status="open")
        # Of one element the library's XML makes no list.
        assert request == (listed[0] if isinstance(listed, list) else listed)
