"""A V4L2 camera, by OpenCV: one picture as JPEG."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from edge_mcp.sensors.device.program import DeviceError, run

_QUALITY = 92


def take(path: str, options: Mapping[str, float]) -> bytes:
    """A picture of the camera at `path`, after `skip` that it needs to adjust itself. Raises: DeviceError."""
    _check(path)
    try:
        import cv2
    except ModuleNotFoundError:
        raise DeviceError(
            "the package opencv-python-headless is not installed. "
            "Install the extra camera, or run pip install opencv-python-headless in edge-mcp's environment"
        ) from None
    camera = cv2.VideoCapture(path, cv2.CAP_V4L2)
    try:
        if not camera.isOpened():
            raise DeviceError(f"{path} cannot be opened as a camera. See whether another program uses it: fuser {path}")
        # Over USB, larger pictures come fast enough only when the camera compresses them.
        camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        for name, known in (("width", cv2.CAP_PROP_FRAME_WIDTH), ("height", cv2.CAP_PROP_FRAME_HEIGHT)):
            if options.get(name):
                camera.set(known, options[name])
        for _ in range(int(options.get("skip", 0))):
            camera.grab()
        taken, picture = camera.read()
    finally:
        camera.release()
    if not taken:
        raise DeviceError(f"{path} gave no picture. See whether it works: v4l2-ctl --device {path} --all")
    encoded, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise DeviceError(f"the picture of {path} cannot be encoded. Try another width and height")
    return bytes(data.tobytes())


def _check(path: str) -> None:
    """Raises: DeviceError where there is no device that this user may read."""
    there = ", ".join(sorted(str(device) for device in Path("/dev").glob("video*"))) or "none"
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise DeviceError(
            f"there is no camera at {path}: {error.strerror}. See whether it is plugged in; of /dev/video* there are: {there}"
        ) from None
    if not stat.S_ISCHR(mode):
        raise DeviceError(f"{path} is no camera. Of /dev/video* there are: {there}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise DeviceError(f"{path} may not be used. Add the user that runs edge-mcp to the group video")


if __name__ == "__main__":
    run(take)
