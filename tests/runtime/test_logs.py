"""Logs are JSON with a sentence and an action, and never hold private data."""

import io
import json
import logging
import warnings
from asyncio.sslproto import SSLProtocol
from typing import Any

import pytest
import structlog

from kuaixiang.runtime import logs
from kuaixiang.runtime.tls import PeerWithoutCertificate


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def ours() -> Any:
    return structlog.get_logger("node.office")


def faults(fault: str) -> float:
    count: float = logs.FAULTS.labels(fault=fault)._value.get()
    return count


def test_a_line_has_its_sentence_action_service_level_logger_and_time(log: io.StringIO) -> None:
    ours().info("A case was registered.", action="register", case_id="01J", 局="北京")
    [line] = lines(log)
    assert line.pop("at").endswith("Z")
    assert {
        "event": "A case was registered.",
        "action": "register",
        "case_id": "01J",
        "局": "北京",
        "service": "node-110101",
        "level": "info",
        "logger": "node.office",
    } == line
    assert "北京" in log.getvalue()


@pytest.mark.parametrize("key", sorted(logs.PRIVATE_KEYS))
def test_every_private_key_is_blanked_and_counted(log: io.StringIO, key: str) -> None:
    before = faults("private_key")
    ours().info("A case was registered.", action="register", **{key: "张三 13800138000"})
    assert logs.REDACTED == lines(log)[0][key]
    assert "张三" not in log.getvalue()
    assert before + 1 == faults("private_key")


def test_private_keys_are_blanked_at_any_depth_and_in_any_case(log: io.StringIO) -> None:
    ours().info(
        "A batch.", action="import", rows=[{"n": 1, "Contact": "张三"}, ({"deep": {"text": "张三"}},)], Note="张三"
    )
    [line] = lines(log)
    assert [{"n": 1, "Contact": "[private]"}, [{"deep": {"text": "[private]"}}]] == line["rows"]
    assert "张三" not in log.getvalue()


def test_a_private_key_bound_to_a_context_is_blanked(log: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(taxpayer_name="张三"):
        ours().bind(contact="13800138000").info("A case was registered.", action="register")
    assert "张三" not in log.getvalue()
    assert "13800138000" not in log.getvalue()


def test_a_value_that_json_cannot_say_is_named_by_its_type_only(log: io.StringIO) -> None:
    class Case:
        def __repr__(self) -> str:
            return "Case(taxpayer_name='张三')"

    ours().info("A case was registered.", action="register", case=Case())
    assert "张三" not in log.getvalue()
    assert "Case" in lines(log)[0]["case"]


def test_a_line_without_an_action_is_written_marked_and_counted(log: io.StringIO) -> None:
    before = faults("no_action")
    ours().info("Something happened.")
    assert logs.UNNAMED_ACTION == lines(log)[0]["action"]
    assert before + 1 == faults("no_action")


def test_strict_logs_raise_where_the_line_is_written(log: io.StringIO) -> None:
    logs.configure("test", "info", strict=True, stream=log)
    with pytest.raises(logs.ActionMissing, match="Something happened"):
        ours().info("Something happened.")
    with pytest.raises(logs.PrivateKeyLogged, match="'contact'"):
        ours().info("A case was registered.", action="register", contact="13800138000")
    assert log.getvalue() == ""


def test_of_what_asyncio_says_only_that_a_tls_connection_cannot_be_closed_by_half_is_left_out(
    log: io.StringIO,
) -> None:
    told: Any = getattr(SSLProtocol, "_call_eof_received")  # noqa: B009 - asyncio's own, which has no type
    assert logs.HALF_CLOSED in told.__code__.co_consts
    logging.getLogger("asyncio").warning(logs.HALF_CLOSED)
    logging.getLogger("nats").warning(logs.HALF_CLOSED)
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert ["nats", "asyncio"] == [line["logger"] for line in lines(log)]


def test_a_foreign_failure_is_told_by_type_and_place_without_its_message(log: io.StringIO) -> None:
    try:
        try:
            raise ValueError("Failing row contains (张三, 13800138000)")
        except ValueError as cause:
            raise PeerWithoutCertificate("ipv4:127.0.0.1:1") from cause
    except PeerWithoutCertificate:
        ours().exception("A call failed.", action="serve")
    [line] = lines(log)
    outer, inner = line["failure"]
    assert outer["type"] == "kuaixiang.runtime.tls.PeerWithoutCertificate"
    assert "has shown no certificate" in outer["sentence"]
    assert inner["type"] == "builtins.ValueError"
    assert "sentence" not in inner
    assert "test_logs.py" in inner["at"][-1]
    assert "张三" not in log.getvalue()


def test_failures_that_caused_each_other_in_a_ring_are_told_once(log: io.StringIO) -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    ours().error("A call failed.", action="serve", exc_info=first)
    assert len(lines(log)[0]["failure"]) == 2


def test_libraries_are_written_as_json_from_warning_on(log: io.StringIO) -> None:
    logs.configure("test", "info", stream=log)  # pytest has set the root's level since the fixture did
    library = logging.getLogger("nats.aio.client")
    library.info("chatter")
    try:
        raise OSError("张三")
    except OSError:
        library.exception("The link to %s is down.", "hub")
    [line] = lines(log)
    assert ("The link to hub is down.", "library", "error", "nats.aio.client") == (
        line["event"],
        line["action"],
        line["level"],
        line["logger"],
    )
    assert line["failure"][0]["type"] == "builtins.OSError"
    assert "张三" not in log.getvalue()


def test_warnings_of_python_are_written_too(log: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("Old.", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert lines(log)[0]["logger"] == "py.warnings"


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("WARNING", 2), ("error", 1)])
def test_the_level_is_a_threshold(log: io.StringIO, level: str, expected: int) -> None:
    logs.configure("test", level, stream=log)
    for write in (ours().debug, ours().info, ours().warning, ours().error):
        write("A line.", action="test")
    assert expected == len(lines(log))


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(logs.UnknownLogLevel, match="choose one of debug, info, warning, error"):
        logs.configure("test", "loud")
