"""Types the chapters of docs/OPERATING.md that install three tiers and add a county, on machines made of this one.

A machine is a network namespace on a bridge, with a mount namespace in which /root and /var are its own, and /etc, /opt and /usr/local
layers of its own over those that are there. `python -m tests.deploy.bare_machines REPOSITORY DOCUMENT DISK` is to be started under
``unshare`` (`tests.faults.machines.PRIVATE`): with it everything ends, networks, mounts and processes; DISK is an empty folder.

Four things are not what they would be on a bare machine, and no more: systemctl is `tests/deploy/systemctl.py`; the repository is
cloned from this one, by the address in the document; what `make setup` would install, the environment of the tests, is there before it
looks; and the names of the machines stand in /etc/hosts.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.faults.machines import OWN, run

NAMES: Final = {"hq": "10.98.0.10", "zj": "10.98.0.11", "xihu": "10.98.0.12", "xinqu": "10.98.0.13"}
LAYERED: Final = ("etc", "opt", "usr/local")
OWN_FOLDERS: Final = ("root", "var/lib", "var/log", "var/backups", "var/tmp")
CHAPTER: Final = "## Three tiers on bare machines"
ADDING: Final = "### Add a bureau 新设"
WHERE: Final = {
    "Every machine": ("hq", "zj", "xihu", "xinqu"),
    "Install headquarters": ("hq",),
    "Install a province": ("zj",),
    "Install a county": ("xihu",),
    "The first case, at the county": ("xihu",),
    "The first case, at the province": ("zj",),
    "The first case, at headquarters": ("hq",),
    "All is well at the county": ("xihu",),
}
"""On which machines what stands under a heading is typed."""
WHERE_ADDED: Final = {
    "The new edition, at headquarters": ("hq",),
    "The site's new user, at the province": ("zj",),
    "The new county": ("hq",),
}
"""Likewise of the chapter that adds a county; before the last block `AGAIN` is typed."""
AGAIN: Final = {
    "Install a county": "xinqu",
    "The first case, at the county": "xinqu",
    "The first case, at the province": "zj",
    "All is well at the county": "xinqu",
}
"""What is typed once more for the county that is added, and where."""
INSTEAD: Final = {"330106": "330115", "xihu": "xinqu"}
UNITS: Final = {
    "hq": ("nats-server@hq", "kx-node@000000", "kx-hub@000000"),
    "zj": ("nats-server@p330000", "kx-node@330000"),
    "xihu": ("kx-node@330106",),
    "xinqu": ("kx-node@330115",),
}
"""What runs where in the end."""
DOCTORED: Final = {"hq": ("node-000000", "hub-000000"), "zj": ("node-330000",), "xihu": ("node-330106",)}
"""Settings on each of the machines that were there before, which the doctor is asked about once more."""
SITES_ONLY: Final = "useradd --system --home-dir /var/lib/nats"
"""What begins a block for machines of a NATS site."""
COMES_WITHIN: Final = {
    "The first case, at the province",
    "The first case, at headquarters",
    "All is well at the county",
    "The new county",
}
"""Where what a block shows comes within seconds: it may be typed again."""
NOT_INSTALLED: Final = re.compile("nats stream (?!000000|330000)[0-9]{6}")
"""What the doctor looks at of a site that has no machine here."""
BLOCK_SECONDS: Final = 1_200
"""Ten certificates are issued in ten seconds; a busy machine takes its time."""
WITHIN_SECONDS: Final = 300.0
MEDIUM: Final = "media/kuaixiang"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of shell, under which heading, from which line of the document."""

    heading: str
    line: int
    text: str


def blocks(document: str, chapter: str = CHAPTER, where: Mapping[str, object] = WHERE) -> Iterator[Block]:
    """Every block of shell of a chapter. Raises `SystemExit` for one under a heading that nobody types."""
    lines = document.splitlines()
    start = lines.index(chapter)
    above = chapter.split(maxsplit=1)[0]
    heading, inside, began = "", False, 0
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if line.startswith("#") and line.split()[0] in {above, above[1:]} and not inside:
            break
        if line.startswith(f"{above}# "):
            heading = line.removeprefix(f"{above}# ")
        elif line == "```sh":
            inside, began = True, number
        elif line == "```" and inside:
            inside = False
            if heading not in where:
                sys.exit(f"line {began}: nobody knows on which machine to type what stands under {heading!r}")
            yield Block(heading, began, "\n".join(lines[began : number - 1]) + "\n")


def typed_at(block: Block) -> tuple[str, ...]:
    """On which machines it is typed."""
    return ("hq", "zj") if block.text.startswith(SITES_ONLY) else (WHERE | WHERE_ADDED)[block.heading]


def for_the_new_county(block: Block) -> Block:
    """A block as it is typed for the county that is added."""
    text = block.text
    for one, other in INSTEAD.items():
        text = text.replace(one, other)
    return replace(block, text=text)


class Machine:
    """A network and a mount namespace."""

    def __init__(self, name: str, disk: Path, repository: Path) -> None:
        self.name = name
        self._own = OWN / "machines" / name
        self._tools = self._own / "tools"
        self._tools.mkdir(parents=True)
        self._environment = {
            "PATH": f"{self._tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "200",
            # git finds the repository of the document's address here, whoever owns it.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://example.org/kuaixiang.git",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
        }
        self._tool("systemctl", f'exec {sys.executable} {Path(__file__).with_name("systemctl.py")} "$@"')
        self._tool("make", f'{self._installed()}\nexec /usr/bin/make "$@"')
        mounts = ["mount --make-rprivate /"]
        for folder in LAYERED:
            upper, work = self._own / folder / "upper", self._own / folder / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            mounts.append(f"mount -t overlay {name} -o lowerdir=/{folder},upperdir={upper},workdir={work} /{folder}")
        for folder in OWN_FOLDERS:
            (disk / name / folder).mkdir(parents=True)
        mounts += [
            "mount -t tmpfs media /media",
            f"mkdir -p /{MEDIUM} && mount --bind {disk}/medium /{MEDIUM}",
            # The Python of the tests stays where it is, and everybody on the machine may use it.
            f"mkdir {self._own}/python && mount --bind {sys.base_prefix} {self._own}/python",
            *(f"mount --bind {disk}/{name}/{folder} /{folder}" for folder in ("root", "var")),
            f"mkdir -p {sys.base_prefix} && mount --bind {self._own}/python {sys.base_prefix}",
            "rm -rf /etc/kuaixiang /etc/nats /opt/kuaixiang",
            f"chmod 0711 /root && hostname {name}.example",
        ]
        hosts = "".join(f"{address} {other}.example {other}\n" for other, address in NAMES.items())
        (self._own / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}", "ascii")
        mounts.append(f"cp {self._own}/hosts /etc/hosts")
        script = " && ".join(mounts) + " && echo ready && exec sleep infinity"
        command = ("ip", "netns", "exec", name, "unshare", "--mount", "--uts", "sh", "-c", script)
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self._holder.stdout is None or self._holder.stdout.readline() != "ready\n":
            sys.exit(f"the machine {name} was not made")

    def _tool(self, name: str, text: str) -> None:
        file = self._tools / name
        file.write_text(f"#!/bin/sh\nset -e\n{text}\n", "utf-8")
        file.chmod(0o755)

    def _installed(self) -> str:
        """What puts the environment of the tests in the place where `make setup` looks for what it has installed."""
        here = self._own / "venv"
        for part in ("upper", "work"):
            (here / part).mkdir(parents=True)
        venv = "/opt/kuaixiang/.venv"
        return (
            f"mkdir -p {venv}\n"
            f"mount -t overlay venv -o lowerdir={sys.prefix},upperdir={here}/upper,workdir={here}/work {venv}\n"
            # Its programs and its package are this machine's.
            f"grep -rlI '{sys.prefix}' {venv}/bin | xargs sed -i 's#{sys.prefix}#{venv}#g'\n"
            f"echo /opt/kuaixiang > {venv}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/"
            "_kuaixiang.pth\n"
            f"touch {venv}/.installed"
        )

    def type(self, text: str) -> subprocess.CompletedProcess[str]:
        """Type it into a shell of root's that ends at the first command that fails."""
        enter = ("nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--uts")
        return subprocess.run(
            (*enter, "bash", "-e", "-u", "-o", "pipefail", "-c", f"cd\n{text}"),
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            stdin=subprocess.DEVNULL,
        )


def network() -> None:
    """A bridge, and a namespace on it for each machine."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "own", str(OWN))
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "link", "set", "bridge", "up")
    for name, address in NAMES.items():
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        for command in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-netns", name, *command)


def is_well(block: Block, done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a block did what it is for: it ended with 0, or the doctor warned of the next year's calendar alone.

    From the middle of November until it is published, that is all that can be wrong with an installation. The national
    hub besides misses the sites of provinces that were not installed.
    """
    if done.returncode == 0 or "kx doctor" not in block.text:
        return done.returncode == 0
    seen = set(re.findall(r"^(?:warn|fail) +\S+ +([^:\n]+):", done.stdout, re.MULTILINE))
    if "kx doctor hub" in block.text:
        return seen != set() and all(one == "calendar" or NOT_INSTALLED.fullmatch(one) for one in seen)
    return done.returncode == 1 and seen == {"calendar"}


def wrong(block: Block, machine: str, done: subprocess.CompletedProcess[str]) -> str:
    """What to say of a block that failed."""
    return (
        f"line {block.line} ({block.heading}), on {machine}: ended with {done.returncode}\n{block.text}\n"
        f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )


def typed(block: Block, name: str, machine: Machine) -> str:
    """What was shown when a block was typed on a machine; ends the run where it was not well."""
    deadline = time.monotonic() + (WITHIN_SECONDS if block.heading in COMES_WITHIN else 0)
    print(f"line {block.line} on {name}", file=sys.stderr, flush=True)
    while not is_well(block, done := machine.type(block.text)):
        if time.monotonic() >= deadline:
            logs = machine.type("tail -n 15 /var/log/*@*.log || true").stdout
            sys.exit(f"{wrong(block, name, done)}\n{logs[-6000:]}")
        print(f"not yet: {(done.stdout + done.stderr)[-1000:]}", file=sys.stderr, flush=True)
        time.sleep(1)
    return done.stdout


def told(machine: Machine, command: str, wanted: Callable[[Any], bool]) -> Any:
    """The JSON that a command prints once it is as wanted, or in the end."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        done = machine.type(command)
        answer = json.loads(done.stdout or "{}")
        if (answer and wanted(answer)) or time.monotonic() >= deadline:
            return answer
        time.sleep(1)


def running(machines: Mapping[str, Machine], names: Iterable[str]) -> dict[str, str]:
    """The process of each unit of these machines; ends the run where one does not run."""
    found: dict[str, str] = {}
    for name in names:
        for unit in UNITS[name]:
            done = machines[name].type(f"systemctl is-active {unit} && cat /var/lib/systemctl/{unit}.service")
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            found[unit] = done.stdout
    return found


def registered(hq: Machine, count: int, scope: str) -> Any:
    """The row of a scope's figures once so many cases are registered in it."""
    command = f"kx hub stats --json --scope {scope} --hub hq.example:7450 --certificates certificates/office-000000"

    def wanted(answer: Any) -> bool:
        return bool(answer["rows"][0]["facts"].get("registered", 0) >= count)

    return told(hq, command, wanted)["rows"][0]


def answered(zj: Machine, case: str) -> None:
    """The province answers a case."""
    who = (
        "--node zj.example:7440 --bureau 330000 --certificates /media/kuaixiang/330000/office-330000"
        " --tree /etc/kuaixiang/tree.csv --department policy --actor"
    )
    for act in (
        f"dispatch {case} --to policy {who} sj-0001 --role tax-service",
        f"complete {case} --result 政策延续 {who} sj-0002 --role handler",
        f"feedback {case} --told 政策延续至年底 {who} sj-0002 --role handler",
    ):
        done = zj.type(f"kx case {act}")
        if done.returncode:
            sys.exit(f"kx case {act}: {done.stdout}{done.stderr}")


def main() -> None:
    """Type everything; then say as JSON what was seen."""
    repository, document, disk = map(Path, sys.argv[1:])
    text = document.read_text("utf-8")
    network()
    (disk / "medium").mkdir()
    machines = {name: Machine(name, disk, repository) for name in NAMES}
    hq, zj, xinqu = machines["hq"], machines["zj"], machines["xinqu"]
    installing = list(blocks(text))
    for block in installing:
        for name in typed_at(block):
            typed(block, name, machines[name])
    before = running(machines, ("hq", "zj", "xihu"))
    nation = registered(hq, 1, "000000")
    year = time.strftime("%Y", time.gmtime(time.time() + 8 * 3600))
    at_province = zj.type(
        f"kx case show 330106-{year}-0000001 --json --node zj.example:7440 --bureau 330000"
        " --certificates /media/kuaixiang/330000/office-330000 --tree /etc/kuaixiang/tree.csv"
    )

    *adding, last = blocks(text, ADDING, WHERE_ADDED)
    for block in adding:
        for name in typed_at(block):
            typed(block, name, machines[name])
    for block in installing:
        if block.heading in AGAIN:
            typed(for_the_new_county(block), AGAIN[block.heading], machines[AGAIN[block.heading]])
    case = f"330115-{year}-0000001"
    answered(zj, case)
    at_new = told(
        xinqu,
        f"kx case show {case} --json --node xinqu.example:7440 --bureau 330115"
        " --certificates /media/kuaixiang/330115/office-330115 --tree /etc/kuaixiang/tree.csv",
        lambda answer: answer["case"]["stage"] == "concluded",
    )
    for name, services in DOCTORED.items():
        for service in services:
            asked = (
                f"systemctl start kx-{service.replace('-', '-backup@')}.service\n"
                f"runuser -u kuaixiang -- kx doctor {service.partition('-')[0]} --config /etc/kuaixiang/{service}.toml"
            )
            typed(Block("All is well at the county", last.line, asked), name, machines[name])
    typed(last, "hq", hq)
    heard = told(
        hq,
        "kx hub completeness --json --scope 330115 --hub hq.example:7450 --certificates certificates/office-000000",
        lambda answer: answer["completeness"]["bureaus_up_to_date"] == 1,
    )
    after = running(machines, NAMES)
    json.dump(
        {
            "nation": nation,
            "province": json.loads(at_province.stdout),
            "restarted": [unit for unit, process in before.items() if after[unit] != process],
            "new_county": at_new,
            "heard": heard["completeness"],
            "of_new_county": registered(hq, 1, "330115"),
            "nation_then": registered(hq, 2, "000000"),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    os.umask(0o022)
    main()
