"""All models in turn in less memory than all of them need: some leave, every call is answered, nothing is killed."""

import base64
import random
from pathlib import Path
from typing import Any

from tests.cgroups import limited
from tests.processes import ROOT, SHIPPED, serving

LIMIT_MB = 480
ROUNDS = 3


def fixture(name: str) -> str:
    return base64.b64encode((ROOT / "tests/fixtures" / name).read_bytes()).decode()


PHOTO, SOUND = {"image": fixture("chelsea.png")}, {"audio": fixture("sounds/goforward.wav")}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "classify_image": PHOTO,
    "detect_faces": PHOTO,
    "detect_language": {"text": "Wo ist der Bahnhof?"},
    "detect_objects": PHOTO,
    "detect_speech": SOUND,
    "detect_wake_word": SOUND,
    "identify_file": {"data": fixture("page.png")},
    "read_text": {"image": fixture("rendered_text.png")},
}


async def test_models_come_and_go_within_a_control_group(tmp_path: Path) -> None:
    calls = random.Random(5).sample(SHIPPED * ROUNDS, len(SHIPPED) * ROUNDS)
    with limited(LIMIT_MB) as group:
        # Where this user may not make a group, the server is told what it would have found out in one.
        told = () if group else ("--memory-mb", str(LIMIT_MB // 2))
        async with serving("--stdio", *told, inside=group, XDG_CACHE_HOME=str(tmp_path)) as served:
            for tool in calls:
                result = await served.call(tool, **ARGUMENTS[tool])
                assert not result.get("isError"), (tool, result, served.log)
            load = (await served.call("device_status"))["structuredContent"]
            if group:
                assert load["signals"]["memory"]["total_mb"] == LIMIT_MB
        assert [line for line in served.log if " leaves: memory is needed for " in line]
        assert not [line for line in served.log if "killed" in line]
        if group:
            assert (group.kills, group.peak_mb <= LIMIT_MB) == (0, True)
