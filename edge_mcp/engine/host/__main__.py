"""`python -m edge_mcp.engine.host PARENT STAGES_FD LANE_FD…`: the engine process, started by the server only."""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

sys.modules["_hashlib"] = None  # type: ignore[assignment] # hashlib would load OpenSSL, 3.6 MB, for what it can do without

from edge_mcp.engine.channel import Channel  # noqa: E402
from edge_mcp.engine.host.lane import serve_lane  # noqa: E402
from edge_mcp.engine.host.logs import write_logs  # noqa: E402
from edge_mcp.engine.host.residency import Residency  # noqa: E402
from edge_mcp.engine.memory import keep_freed  # noqa: E402
from edge_mcp.engine.messages import Request  # noqa: E402
from edge_mcp.engine.stages import Stages  # noqa: E402

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, stages_fd: int, lane_fds: list[int]) -> None:
    """Serve every lane until the server closes it."""
    _tie_to(parent)
    write_logs(os.environ.get("EDGE_MCP_LOG_LEVEL", "info"))
    keep_freed()
    stages = Stages(stages_fd, len(lane_fds))
    residency = Residency()
    # Made here and not in the threads: two threads that build the decoder of one type at once can crash msgspec.
    channels = [Channel[Request](socket.socket(fileno=fd), Request) for fd in lane_fds]

    def serve(index: int) -> None:
        try:
            serve_lane(channels[index], residency, stages, index)
        except BaseException:
            # A lane that cannot go on must not leave the server waiting: end the process, which the server notices.
            logging.exception("lane %d failed", index)
            os._exit(70)

    threads = [threading.Thread(target=serve, args=(index,), name=f"lane-{index}") for index in range(1, len(lane_fds))]
    for thread in threads:
        thread.start()
    serve(0)
    for thread in threads:
        thread.join()


def _tie_to(parent: int) -> None:
    """The engine ends with the server whatever it is doing, and is the first to go when memory runs out."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("engine: the server is gone")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the server decides
    Path("/proc/self/oom_score_adj").write_text("500", "ascii")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(fd) for fd in sys.argv[3:]])
