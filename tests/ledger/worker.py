"""A process of its own that holds a ledger: `python -m tests.ledger.worker MODE URL`.

`hold` opens it and waits; `stream` registers cases from many callers at once and writes a line for each one that the
ledger has acknowledged, for ever.
"""

import asyncio
import sys

from kuaixiang.runtime import logs
from kuaixiang.runtime.database import DatabaseError
from tests.domain.story import HANGZHOU, SHANGCHENG
from tests.ledger.bureaus import Desks, desks

CALLERS = 16


async def stream(opened: Desks) -> None:
    async def call(number: int) -> None:
        bureau = (SHANGCHENG, HANGZHOU)[number % 2]
        while True:
            done = await opened.register(bureau)
            sys.stdout.write(f"{bureau} {done.case.case_id} {done.seq}\n")
            sys.stdout.flush()

    await asyncio.gather(*(call(number) for number in range(CALLERS)))


def main() -> None:
    mode, url = sys.argv[1:]
    logs.configure("ledger-worker")
    try:
        with desks(url) as opened:
            sys.stdout.write("open\n")
            sys.stdout.flush()
            if mode == "stream":
                asyncio.run(stream(opened))
            sys.stdin.read()
    except DatabaseError as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    main()
