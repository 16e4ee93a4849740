"""Prompts that help to use the device: they name only tools and resources that it has."""

from collections.abc import Callable, Mapping, Sequence

from edge_mcp.context import Context
from edge_mcp.errors import ArgumentError
from edge_mcp.prompts.base import PromptArgument, PromptDefinition, PromptMessage
from edge_mcp.protocol.content import EmbeddedResource
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.labels import labels
from edge_mcp.repository.outputs import BlazefaceOutput, SsdOutput, TextBoxesOutput
from edge_mcp.repository.store import Entry, Store

STATUS = "device://status"
MODEL = "model://"

_LOOK = PromptDefinition(
    "look_at_scene",
    "Look at a scene",
    "Look at a picture with the device's models, and say what is there.",
    (PromptArgument("question", "Question", "What you want to know of the picture."),),
)
_FIND = PromptDefinition(
    "find_object",
    "Find an object",
    "Find all things of one kind in a picture, with their places.",
    (PromptArgument("label", "Label", "The kind of thing, as the device's models call it.", required=True),),
)
_CHECK = PromptDefinition("check_device", "Check the device", "Read the device's status, and judge whether it is well.")
_EXPLAIN = PromptDefinition(
    "explain_model",
    "Explain a model",
    "Say what a model of the device can do, what it cannot, and how fast it is here.",
    (PromptArgument("model", "Model", "The model's name.", required=True),),
)

NAMES = frozenset({_LOOK.name, _FIND.name, _CHECK.name, _EXPLAIN.name})


class DevicePrompts:
    """See prompts.base.Prompts. `read` gives the text of a resource of the device; `sensors` are URIs that give pictures."""

    def __init__(self, store: Store, read: Callable[[str], str | None], sensors: Sequence[str] = ()) -> None:
        self._sensors = sensors
        self._read = read
        self._definitions: list[PromptDefinition] = []
        self.swap(store)

    def swap(self, store: Store) -> bool:
        """Tell of what is in `store` from now on; whether the list of prompts has changed."""
        before = self._definitions
        self._entries = {entry.manifest.model.name: entry for entry in store.entries}
        self._labels: dict[str, tuple[str, ...]] = {}
        looking = [entry for entry in store.entries if isinstance(entry.manifest.input, ImageInput)]
        self._finders = [entry for entry in looking if isinstance(entry.manifest.output, SsdOutput)]
        self._lookers = sorted(looking, key=_order)
        self._definitions = [
            *([_LOOK] if self._lookers else []),
            *([_FIND] if self._finders else []),
            _CHECK,
            *([_EXPLAIN] if self._entries else []),
        ]
        return self._definitions != before

    async def prompts(self) -> Sequence[PromptDefinition]:
        """See Prompts."""
        return self._definitions

    async def get(self, name: str, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage] | None:
        """See Prompts."""
        if name not in {definition.name for definition in self._definitions}:
            return None
        if name == _LOOK.name:
            return self._look(arguments.get("question", ""))
        if name == _FIND.name:
            return self._find(arguments["label"])
        if name == _EXPLAIN.name:
            return self._explain(arguments["model"])
        return self._check()

    async def complete(self, name: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Prompts."""
        begins = value.casefold()
        if (name, argument) == (_EXPLAIN.name, "model"):
            return [model for model in self._entries if model.startswith(begins)]
        if (name, argument) == (_FIND.name, "label") and self._finders:
            return sorted({label for label in self._found_labels() if label.casefold().startswith(begins)})
        return []

    def _look(self, question: str) -> list[PromptMessage]:
        steps = "\n".join(f"{number}. {_step(entry)}" for number, entry in enumerate(self._lookers, 1))
        asked = question.strip() or "What is in this picture?"
        now = f" If I gave you none, use `{'` or `'.join(self._sensors)}`: a camera of the device." if self._sensors else ""
        return [
            PromptMessage.user(
                f"{asked}\n\nLook at the picture that I gave you with the models of this device. Pass it as the argument "
                f"`image` (base64, or a data: URI) to these tools, in this order, as far as the question needs them.{now}\n"
                f"{steps}\n"
                "\nBoxes are in pixels of the picture, from its top left. Scores go from 0 to 1: say how sure you are, and "
                "what the models cannot tell. When nothing is found, try once more with a lower `threshold` before you say so."
            )
        ]

    def _find(self, label: str) -> list[PromptMessage]:
        able = [entry for entry in self._finders if label.casefold() in map(str.casefold, self._labels_of(entry))]
        if not able:
            raise ArgumentError(
                f"no model of this device finds {label[:100]!r}", f"They find {', '.join(sorted(self._found_labels())[:50])}"
            )
        tools = " and ".join(f"`{entry.manifest.tool.name}`" for entry in able)
        return [
            PromptMessage.user(
                f"Find every {label} in the picture that I gave you: call {tools} with the picture as the argument `image` and "
                f"`annotate` true, and keep what has the label {label!r}. Say how many there are, where each is in the picture "
                "and how sure the model is, and show the picture with the boxes. When there is none, call once more with "
                "`threshold` 0.2 before you say so."
            )
        ]

    def _check(self) -> list[PromptMessage]:
        return [
            self._embedded(STATUS),
            PromptMessage.user(
                f"This is the status of the device (resource {STATUS}; read it again if you can). Judge in a few sentences "
                "whether it is well: the share of calls that failed, a load average above the number of processors, a "
                "processor above 80 °C (a Raspberry Pi slows down from there), memory that grew. Null means that the device "
                "cannot tell. "
                "An engine that is not running is no fault: it starts with the next call. Say what to do, if anything."
            ),
        ]

    def _explain(self, model: str) -> list[PromptMessage]:
        if model not in self._entries:
            raise ArgumentError(f"there is no model {model[:100]!r}", f"This device has {', '.join(self._entries)}")
        tool = self._entries[model].manifest.tool.name
        return [
            self._embedded(MODEL + model),
            PromptMessage.user(
                f"This is the card of the model {model}, which the tool `{tool}` runs. Explain to somebody who knows nothing "
                "of machine learning what it can do, what to give it, what it answers, what it is not good for, under which "
                "licence it may be used, and how fast it is on this device (`inference_ms`; null: it has not run "
                "since the start)."
            ),
        ]

    def _embedded(self, uri: str) -> PromptMessage:
        return PromptMessage("user", EmbeddedResource(uri, self._read(uri) or "", "application/json").block())

    def _found_labels(self) -> set[str]:
        return {label for entry in self._finders for label in self._labels_of(entry)}

    def _labels_of(self, entry: Entry) -> tuple[str, ...]:
        name = entry.manifest.model.name
        if name not in self._labels:
            self._labels[name] = labels(entry)
        return self._labels[name]


def _order(entry: Entry) -> int:
    """What is there first, then what the whole is, then details."""
    output = entry.manifest.output
    return 0 if isinstance(output, SsdOutput) else 2 if isinstance(output, BlazefaceOutput | TextBoxesOutput) else 1


def _step(entry: Entry) -> str:
    tool = entry.manifest.tool
    drawn = " With `annotate` true it also answers the picture with its boxes." if entry.manifest.has_boxes else ""
    return f"`{tool.name}`: {tool.description}{drawn}"
