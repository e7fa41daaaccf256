"""Words in both languages, times, JSON of messages, and help that says what it should."""

import importlib
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from enum import IntEnum
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.main import get_command

from kuaixiang.domain import words
from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import ACTS, EVENTS, TERMS, NoSuchWord, name, word_of
from kuaixiang.domain.words import Category, Channel, Role, Stage
from kuaixiang.wire.codec import ACT_OF_REQUEST, act_of
from kuaixiang.wire.v1 import case_pb2, common_pb2, journal_pb2
from kx.client import request_of, rpc_of
from kx.main import COMMANDS
from kx.output import both, instant_of, local, table_of
from tests.kx.conftest import kx


def sample(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return sample(get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return list(hint)[-1]
    samples = {
        str: "x",
        int: 3,
        bool: True,
        datetime: datetime(2026, 9, 28, 1, 2, 3, tzinfo=UTC),
        tuple[str, ...]: ("a", "b"),
    }
    return samples[hint]


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
def test_every_word_has_one_chinese_term_and_is_found_by_it(kind: type[IntEnum]) -> None:
    assert len(TERMS[kind]) == len(kind)
    assert [word_of(kind, TERMS[kind][word - 1]) for word in kind] == list(kind)


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
def test_the_terms_begin_as_those_of_the_wire_do(kind: type[IntEnum]) -> None:
    assert kind in vars(words).values()
    assert [word_of(kind, name(word)) for word in kind] == list(kind)
    assert [word_of(kind, word.name) for word in kind] == list(kind)


def test_every_event_of_the_journal_has_a_chinese_term() -> None:
    events = journal_pb2.Entry.DESCRIPTOR.oneofs_by_name["event"].fields
    assert set(EVENTS) == {event.name for event in events}


def test_an_unknown_word_is_answered_with_those_there_are() -> None:
    with pytest.raises(NoSuchWord) as refused:
        word_of(Category, "税收")
    assert "policy 政策落实" in refused.value.remedy.english
    assert refused.value.remedy.chinese.startswith("可选：政策落实、执法规范、")


def test_a_word_is_shown_in_both_languages() -> None:
    assert both(Role.TAX_SERVICE) == "tax-service 纳税服务部门"


@pytest.mark.parametrize("written", ["2026-09-28 09:30", "2026-09-28T09:30:00+08:00", "2026-09-28T01:30:00Z"])
def test_a_time_without_an_offset_is_shanghais(written: str) -> None:
    assert local(instant_of(written)) == "2026-09-28 09:30"


def test_what_is_no_time_is_refused_with_the_form_wanted() -> None:
    with pytest.raises(typer.BadParameter, match="YYYY-MM-DD HH:MM"):
        instant_of("yesterday")


@pytest.mark.parametrize("kind", ACT_OF_REQUEST.values(), ids=lambda kind: kind.__name__)
def test_a_request_asks_for_the_act_it_is_made_of(kind: type[Act]) -> None:
    hints = get_type_hints(kind)
    act = kind(**{one.name: sample(hints[one.name]) for one in fields(kind)})
    assert act_of(request_of(act)) == act


def test_every_act_of_the_service_has_a_command_and_an_rpc() -> None:
    assert {rpc_of(request()) for request in ACT_OF_REQUEST} == {
        method.name
        for method in case_pb2.DESCRIPTOR.services_by_name["CaseService"].methods
        if method.output_type.name == "ActResponse"
    }
    listed = {"answer", "forward", "dispatch", "return-dispatch", "accept", "ask-extension", "approve-extension"}
    listed |= {"refuse-extension", "start-joint", "complete-part", "complete", "feedback", "follow-up", "reopen"}
    listed |= {"withdraw", "defer", "resume", "reconsideration", "refer", "return", "withdraw-offer", "write-off"}
    listed |= {"explain-extension", "add-part", "link", "unlink", "link-issue", "ask-ruling", "rule"}
    listed |= {"ask-override", "approve-override", "refuse-override", "attach", "attachments", "fetch"}
    listed |= {"register", "escalate", "show", "list", "watch", "track", "import", "export", "duplicates"}
    listed |= {"count", "receipts", "hand-over"}
    assert set(command_of("case").commands) == listed


def test_an_acts_command_says_what_the_act_is_called_in_chinese() -> None:
    commands = command_of("case").commands
    known = {act: commands[name.command].help for act, name in ACTS.items() if name.command in commands}
    assert {act: said for act, said in known.items() if ACTS[act].chinese not in said} == {}


def test_a_message_in_json_has_the_words_of_the_command_line() -> None:
    message = case_pb2.GetCaseResponse(case=case_pb2.Case(case_id="x"))
    message.case.stage = common_pb2.STAGE_FED_BACK
    message.case.registered_at.seconds = 1_790_557_200
    found = table_of(message)
    assert found["private_view"] is None
    assert found["history"] == []
    case = found["case"]
    assert (case["stage"], case["category"], case["registered_at"]) == ("fed-back", None, "2026-09-28T09:00:00+08:00")
    assert word_of(Stage, case["stage"]) is Stage.FED_BACK


def command_of(name: str) -> Any:
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    return get_command(found)


def test_kx_help_lists_every_command_and_imports_none() -> None:
    script = (
        "import sys, runpy\nsys.argv = ['kx', '--help']\n"
        "from kx.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'grpc', 'sqlalchemy', 'kx.case', 'node', 'hub', 'cryptography'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f" {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("group", COMMANDS)
def test_every_command_and_option_says_what_it_is(group: str) -> None:
    found = command_of(group)
    if hasattr(found, "commands"):
        assert found.help == COMMANDS[group][1]
    for command_name, command in getattr(found, "commands", {group: found}).items():
        assert (command.help or "").strip(), f"{group} {command_name}"
        for parameter in command.params:
            assert getattr(parameter, "help", ""), f"{group} {command_name} {parameter.name}"


@pytest.mark.parametrize("command", ["register", "forward", "list", "watch", "import", "export"])
def test_help_names_the_environment_and_the_units(command: str) -> None:
    help_text = kx("case", command, "--help").output
    assert "KX_NODE" in help_text
    assert "SECONDS" in help_text
    if command not in {"list", "watch"}:
        assert "KX_ROLE" in help_text


def test_a_wrong_word_is_a_usage_error_that_names_the_option() -> None:
    options = {"KX_NODE": "127.0.0.1:1", "KX_CERTIFICATES": "/nowhere", "KX_BUREAU": "110101"}
    result = kx("case", "list", "--category", "税收", environment=options)
    assert result.exit_code == 2
    assert "--category" in result.stderr
    assert "policy 政策落实" in result.stderr


def test_what_is_missing_is_named_with_its_environment_variable() -> None:
    result = kx("case", "list")
    assert result.exit_code == 2
    assert "--node" in result.stderr
    assert "KX_NODE" in result.stderr


def test_channel_names_are_those_of_the_notice() -> None:
    assert word_of(Channel, "12366热线") is Channel.HOTLINE


@pytest.mark.parametrize(
    ("command", "default"),
    [
        (("case", "register"), "counter"),
        (("case", "feedback"), "hotline"),
        (("supervise", "issue"), "supervise"),
    ],
)
def test_help_names_the_word_that_is_taken_when_an_option_is_left_out(command: tuple[str, str], default: str) -> None:
    assert f"[default: {default}]" in kx(*command, "--help").output
