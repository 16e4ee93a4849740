"""The JSON Schemas of what tools that listen take and answer."""

from typing import Any

from edge_mcp.repository.outputs import SpeechOutput, WakeWordOutput

_RAW = ("s16le", "s16be", "s24le", "s32le", "f32le", "u8", "mulaw", "alaw")
_SCORE = {"type": "number", "minimum": 0, "maximum": 1}
_TIME = {"type": "number", "description": "Seconds from the beginning of the sound, or of the stream."}

AUDIO: dict[str, Any] = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "The sound (WAV, FLAC, OGG with Vorbis or Opus; or raw PCM, with rate), of any rate and number of channels: "
    "base64, a data: URI, or a file: URI or path that the server may read.",
}


def sound_arguments(output: SpeechOutput | WakeWordOutput) -> dict[str, Any]:
    """All but `audio`."""
    speech = isinstance(output, SpeechOutput)
    return {
        "threshold": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": output.threshold,
            "description": "Speech begins with a score of this." if speech else "The word counts from this score on.",
        },
        "stream": {
            "type": "string",
            "minLength": 1,
            "maxLength": 64,
            "pattern": "^[A-Za-z0-9_.:-]+$",
            "description": "A name of your choice for a sound that comes in pieces, one call after the other: each goes on "
            "where the one before it ended. Without it the sound is a whole.",
        },
        "end": {
            "type": "boolean",
            "default": False,
            "description": "This is the last piece of the stream, which is forgotten then. Its audio may be empty.",
        },
        "rate": {
            "type": "integer",
            "minimum": 1,
            "description": "Samples a second; of raw PCM only: other kinds of sound say it themselves.",
        },
        "channels": {"type": "integer", "minimum": 1, "default": 1, "description": "Channels of raw PCM, interleaved."},
        "format": {"enum": list(_RAW), "default": "s16le", "description": "The samples of raw PCM, by FFmpeg's names."},
        "scores": {"type": "boolean", "default": False, "description": "Also answer the score of each step."},
    }


def sound_result(output: SpeechOutput | WakeWordOutput) -> dict[str, Any]:
    """What is always there."""
    if isinstance(output, SpeechOutput):
        segment = {"start_s": _TIME, "end_s": _TIME, "score": {**_SCORE, "description": "The mean score of its steps."}}
        found: dict[str, Any] = {
            "speaking": {"type": "boolean", "description": "Somebody speaks at the end of this sound."},
            "segments": _array(segment, "When there was speech: what has ended by now. In a stream each is told once."),
            "speech_share": {**_SCORE, "description": "How much of this sound is speech."},
        }
    else:
        detection = {
            "phrase": {"type": "string"},
            "time_s": _TIME,
            "score": {**_SCORE, "description": "The highest of the steps that were averaged."},
        }
        found = {
            "detected": {"type": "boolean"},
            "detections": _array(detection, "When the word had been said. In a stream each is told once."),
            "score": {**_SCORE, "description": "The highest average in this sound; it is compared with threshold."},
        }
    return {**found, "duration_s": {"type": "number", "description": "Length of this sound, in seconds."}}


def sound_extras(output: SpeechOutput | WakeWordOutput) -> dict[str, Any]:
    """What is there on certain terms."""
    since = {"since_s": {**_TIME, "description": "Since when somebody speaks, where a stream goes on."}}
    return {
        **(since if isinstance(output, SpeechOutput) else {}),
        "step_s": {"type": "number", "description": "How many seconds of sound a score is for."},
        "scores": {
            "type": "array",
            "items": {"type": "number"},
            "description": "The score of each step that this sound completed.",
        },
        "stream": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "new": {
                    "type": "boolean",
                    "description": "The stream begins with this call. In a later call: what was before is lost, because it "
                    "ended, was not used for long, had to make room for others, or the model was loaded anew.",
                },
                "position_s": {"type": "number", "description": "How many seconds of sound the stream has had."},
                "ended": {"type": "boolean"},
            },
            "required": ["name", "new", "position_s", "ended"],
        },
    }


def _array(properties: dict[str, Any], description: str) -> dict[str, Any]:
    items = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "description": description, "items": items}
