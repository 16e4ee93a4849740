"""A camera of the Raspberry Pi, by Picamera2: one picture as JPEG."""

import io
from collections.abc import Mapping

from edge_mcp.sensors.device.program import DeviceError, run


def take(number: str, options: Mapping[str, float]) -> bytes:
    """A picture of the camera of this number (the first without one). Raises: DeviceError."""
    if number and not (number.isascii() and number.isdigit() and len(number) < 3):
        raise DeviceError(f"{number[:20]!r} is no number of a camera. Write picamera2: or picamera2:1")
    try:
        from picamera2 import Picamera2
    except ModuleNotFoundError:
        raise DeviceError(
            "the package picamera2 is not there for edge-mcp's Python. On Raspberry Pi OS: sudo apt install "
            "python3-picamera2, and an environment with --system-site-packages; or use command:rpicam-still -n -t 500 -o -"
        ) from None
    cameras = Picamera2.global_camera_info()
    if int(number or 0) >= len(cameras):
        raise DeviceError(f"there is no camera {number or 0}: {len(cameras)} found. See what rpicam-hello --list-cameras says")
    with Picamera2(int(number or 0)) as camera:
        size = (int(options.get("width", 0)), int(options.get("height", 0)))
        camera.configure(camera.create_still_configuration(main={"size": size} if all(size) else {}))
        camera.start()
        data = io.BytesIO()
        camera.capture_file(data, format="jpeg")
        camera.stop()
    return data.getvalue()


if __name__ == "__main__":
    run(take)
