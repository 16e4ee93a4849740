"""What the programs have in common."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

Take = Callable[[str, Mapping[str, float]], bytes]
_PR_SET_PDEATHSIG = 1  # prctl(2)


class DeviceError(Exception):
    """Why a device gave nothing, and what to do about it, in one line: `What is wrong. What would be right`."""


def run(take: Take) -> None:
    """`PROGRAM PARENT TARGET NAME=NUMBER…`: write what `take` gives; an error is a line on stderr that begins "edge-mcp: "."""
    parent, target, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
    out = os.dup(1)
    os.dup2(2, 1)  # native libraries write their complaints to either
    try:
        data = take(target, {name: float(number) for name, _, number in (word.partition("=") for word in words)})
    except DeviceError as error:
        _fail(str(error))
    except ImportError as error:
        _fail(f"a package does not load: {error}. Install it anew")
    except Exception as error:  # noqa: BLE001 - whatever a driver's library raises is a line
        _fail(f"{type(error).__name__}: {error}. See whether the device works with other programs")
    with os.fdopen(out, "wb") as stream:
        stream.write(data)
    os._exit(0)  # some libraries hang in their farewells, with the data written already


def _fail(message: str) -> NoReturn:
    sys.stderr.write("\nedge-mcp: " + " ".join(message.split())[:500] + "\n")
    sys.stderr.flush()
    os._exit(1)
