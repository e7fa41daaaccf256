"""One service of the federation as a process: ``python -m demo.serve node|hub CONFIG``.

What ``kx node serve --config`` and ``kx hub serve --config`` do, without the command line's packages: a dozen of these
start together on two cores.
"""

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; a fault at the start is told by its sentence and a traceback, in the process's log."""
    from kuaixiang.runtime.settings import read_settings

    kind, config = arguments
    if kind == "node":
        from node.service import serve as serve_node
        from node.settings import NodeSettings

        serve_node(read_settings(NodeSettings, Path(config)))
    else:
        from hub.service import serve as serve_hub
        from hub.settings import HubSettings

        serve_hub(read_settings(HubSettings, Path(config)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
