"""Stands for systemctl on a machine without systemd: starts what a unit starts, as the unit says it.

Of a unit it heeds the command, user, group, working directory, environment, umask, the folders of state and settings, and
how it is told to stop or to read again. It starts nothing a second time, and fences nothing in.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from configparser import RawConfigParser
from pathlib import Path

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/var/lib/systemctl")
LOGS = Path("/var/log")
STOP_SECONDS = 60.0


class Unit:
    """One unit, or an instance of one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid_file = RUNNING / name
        stem, self.suffix = name.rsplit(".", 1)
        template, at, instance = stem.partition("@")
        file = UNITS / (f"{template}@.{self.suffix}" if at else name)
        if not file.is_file():
            sys.exit(f"Unit {name} not found: {file} is not there.")
        parser = RawConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
        parser.read_string(file.read_text("utf-8").replace("%i", instance))
        self.service = dict(parser["Service"]) if parser.has_section("Service") else {}

    @property
    def pid(self) -> int:
        """Of its process while that runs, else 0."""
        if not self.pid_file.exists():
            return 0
        pid = int(self.pid_file.read_text("ascii"))
        try:
            state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        except OSError:
            return 0
        return 0 if state == "Z" else pid

    def start(self) -> None:
        """Start it, and wait where it is a one-shot."""
        if self.suffix == "timer":
            Unit(self.name.replace(".timer", ".service"))
            return
        if self.pid:
            return
        user, group = self.service["User"], self.service["Group"]
        for option, parent in (("StateDirectory", "/var/lib"), ("ConfigurationDirectory", "/etc")):
            if name := self.service.get(option):
                folder = Path(parent, name)
                folder.mkdir(exist_ok=True)
                folder.chmod(int(self.service[f"{option}Mode"], 8))
                if option == "StateDirectory":
                    subprocess.run(["chown", f"{user}:{group}", folder], check=True)
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        named = self.service.get("EnvironmentFile", "")
        if named and (not named.startswith("-") or Path(named[1:]).exists()):
            for line in Path(named.lstrip("-")).read_text("utf-8").splitlines():
                if re.match(r"\w+=", line):
                    variable, _, value = line.partition("=")
                    environment[variable] = shlex.split(value)[0] if value else ""
        with (LOGS / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                shlex.split(self.service["ExecStart"]),
                user=user,
                group=group,
                extra_groups=[],
                cwd=self.service.get("WorkingDirectory", "/"),
                umask=int(self.service.get("UMask", "0022"), 8),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self.service.get("Type") == "oneshot":
            if process.wait():
                sys.exit(f"{self.name} failed: {(LOGS / f'{self.name}.log').read_text('utf-8')[-2000:]}")
            return
        RUNNING.mkdir(exist_ok=True)
        self.pid_file.write_text(str(process.pid), "ascii")

    def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        if pid := self.pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while self.pid:
                if time.monotonic() > deadline:
                    sys.exit(f"{self.name} does not stop")
                time.sleep(0.05)

    def reload(self) -> None:
        """Have it read its files again."""
        command = self.service["ExecReload"].replace("$MAINPID", str(self.pid))
        subprocess.run(shlex.split(command), check=True)


def main() -> None:
    """As systemctl: a verb, options, units."""
    verb, *rest = sys.argv[1:]
    names = [name if "." in name else f"{name}.service" for name in rest if not name.startswith("-")]
    if verb == "daemon-reload":
        return
    for unit in map(Unit, names):
        match verb:
            case "start":
                unit.start()
            case "enable":
                if "--now" in rest:
                    unit.start()
            case "stop":
                unit.stop()
            case "restart":
                unit.stop()
                unit.start()
            case "reload":
                unit.reload()
            case "is-active":
                if not unit.pid:
                    sys.exit(f"{unit.name} is not active")
            case _:
                sys.exit(f"systemctl {verb} is not known here")


if __name__ == "__main__":
    main()
