"""What `kx doctor` finds: of each thing that it looks at how it stands, and what is to be done."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.markup import escape

from kuaixiang.domain.labels import NOTHING, Both


class Verdict(StrEnum):
    """How a thing stands."""

    OK = "ok"
    WARN = "warn"
    """It goes on, and will not for ever."""
    FAIL = "fail"
    """The service cannot do its part by it."""


EXIT_CODES: Final = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}
STYLES: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
WORDS: Final = {Verdict.OK: "正常", Verdict.WARN: "注意", Verdict.FAIL: "故障"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `look` names it, in words that stay the same."""

    look: str
    verdict: Verdict
    said: Both
    remedy: Both = NOTHING

    def as_dict(self) -> dict[str, str]:
        """The finding in plain values."""
        return {
            "look": self.look,
            "verdict": self.verdict.value,
            "said": self.said.english,
            "said_chinese": self.said.chinese,
            "remedy": self.remedy.english,
            "remedy_chinese": self.remedy.chinese,
        }


def ok(look: str, english: str, chinese: str) -> Finding:
    """It is as it should be."""
    return Finding(look, Verdict.OK, Both(english, chinese))


def warn(look: str, said: Both, remedy: Both) -> Finding:
    """Something is to be done, and not at once."""
    return Finding(look, Verdict.WARN, said, remedy)


def fail(look: str, said: Both, remedy: Both) -> Finding:
    """Something is to be done now."""
    return Finding(look, Verdict.FAIL, said, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well; 1: something is to be seen to; 2: something does not work."""
    return max((EXIT_CODES[one.verdict] for one in findings), default=0)


def show(findings: Iterable[Finding]) -> None:
    """A line for each, in both languages, with what to do below."""
    console = Console(highlight=False, soft_wrap=True)
    for one in findings:
        mark = f"[{STYLES[one.verdict]}]{one.verdict.value:<4} {WORDS[one.verdict]}[/]"
        console.print(f"{mark}  {one.look}: {escape(one.said.english)} {escape(one.said.chinese)}")
        if one.remedy != NOTHING:
            console.print(f"           [dim]do 处理:[/dim] {escape(one.remedy.english)} {escape(one.remedy.chinese)}")
