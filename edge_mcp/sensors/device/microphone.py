"""A microphone of ALSA or PipeWire, by PortAudio: a recording as WAV, 16 bits."""

import io
import wave
from collections.abc import Mapping
from typing import Any

from edge_mcp.sensors.device.program import DeviceError, run

_BLOCKS_PER_S = 10


def take(device: str, options: Mapping[str, float]) -> bytes:
    """Record `seconds` with a device (a number, or part of a name; the default one without). Raises: DeviceError."""
    audio = _portaudio()
    rate, channels = int(options["rate"]), int(options["channels"])
    chosen = _chosen(audio, device)
    frames = round(options["seconds"] * rate)
    sound = bytearray()
    try:
        with audio.RawInputStream(samplerate=rate, device=chosen, channels=channels, dtype="int16") as stream:
            while frames > 0:
                count = min(frames, max(1, rate // _BLOCKS_PER_S))
                sound += stream.read(count)[0]
                frames -= count
    except audio.PortAudioError as error:
        raise DeviceError(f"the microphone does not record: {_said(error)}. {_advice(audio, chosen)}") from None
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound)
    return written.getvalue()


def _portaudio() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise DeviceError(
            "the package sounddevice is not installed. "
            "Install the extra microphone, or run pip install sounddevice in edge-mcp's environment"
        ) from None
    except OSError:
        raise DeviceError("the library PortAudio is not installed. On Debian: sudo apt install libportaudio2") from None
    return sounddevice


def _chosen(audio: Any, device: str) -> int:
    """The number of an input device. Raises: DeviceError."""
    known = [(number, one) for number, one in enumerate(audio.query_devices()) if one["max_input_channels"] > 0]
    if not known:
        raise DeviceError("there is no microphone. Plug one in, or see what arecord -l says; the user may need the group audio")
    names = ", ".join(f"{number} {one['name']}" for number, one in known)[:300]
    if not device:
        default = audio.default.device[0]
        return int(default if default >= 0 else known[0][0])
    fits = [number for number, one in known if device in (str(number), one["name"])]
    fits = fits or [number for number, one in known if device.lower() in one["name"].lower()]
    if not fits:
        raise DeviceError(f"there is no microphone {device[:60]!r}. There are: {names}")
    return fits[0]


def _advice(audio: Any, chosen: int) -> str:
    one = audio.query_devices(chosen)
    rate, channels = one["default_samplerate"], one["max_input_channels"]
    return f"{one['name']} takes rate={rate:g}, and up to {channels} channels; see whether another program uses it"


def _said(error: Exception) -> str:
    return str(error.args[0] if error.args else error).rstrip(".")


if __name__ == "__main__":
    run(take)
