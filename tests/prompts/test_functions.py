"""Python functions as prompts, and rooms of them joined."""

from typing import Annotated, Any

import msgspec
import pytest

from edge_mcp.errors import ArgumentError, ConfigError, EdgeError
from edge_mcp.prompts.base import PromptArgument, PromptMessage
from edge_mcp.prompts.functions import FunctionPrompt, FunctionPrompts
from edge_mcp.prompts.joined import JoinedPrompts
from edge_mcp.protocol.content import Image

CONTEXT: Any = None


def say(word: Annotated[str, msgspec.Meta(description="What to say.")], times: int = 1) -> str:
    """Says it."""
    return " ".join([word] * times)


async def test_a_prompt_has_the_arguments_of_its_function() -> None:
    prompt = FunctionPrompt(say, title="Say")
    assert prompt.definition.description == "Says it."
    word = PromptArgument("word", description="What to say.", required=True)
    assert prompt.definition.arguments == (word, PromptArgument("times"))
    assert await prompt.get({"word": "a", "times": "2"}, CONTEXT) == [PromptMessage.user("a a")]
    wrongs: list[dict[str, str]] = [{}, {"word": "a", "times": "two"}, {"word": "a", "other": ""}]
    for wrong in wrongs:
        with pytest.raises(ArgumentError, match="It takes word"):
            await prompt.get(wrong, CONTEXT)


async def test_messages_may_be_blocks_and_the_assistants() -> None:
    answered = PromptMessage("assistant", {"type": "text", "text": "ok"})
    prompt = FunctionPrompt(lambda: ["look", Image(b"x"), answered], "p")
    user, picture, assistant = await prompt.get({}, CONTEXT)
    assert (user.role, picture.content["type"], assistant) == ("user", "image", answered)
    with pytest.raises(TypeError, match="int"):
        await FunctionPrompt(lambda: 5, "p").get({}, CONTEXT)

    def refuse() -> str:
        raise ValueError("not now")

    with pytest.raises(EdgeError, match="not now"):
        await FunctionPrompt(refuse).get({}, CONTEXT)


async def test_joined_rooms_answer_one_after_the_other() -> None:
    one, two = FunctionPrompts(), FunctionPrompts(["taken"])
    one.add(FunctionPrompt(lambda: "one", "a"))
    two.add(FunctionPrompt(lambda: "two", "a"))
    two.add(FunctionPrompt(say, "b"))
    two.completes("b", "word", lambda value, known: [value + "!"])
    with pytest.raises(ConfigError, match="already"):
        two.add(FunctionPrompt(say, "taken"))
    joined = JoinedPrompts([one, two])
    assert await joined.get("a", {}, CONTEXT) == [PromptMessage.user("one")]
    assert await joined.get("b", {"word": "x"}, CONTEXT) == [PromptMessage.user("x")]
    assert await joined.get("c", {}, CONTEXT) is None
    assert [prompt.name for prompt in await joined.prompts()] == ["a", "a", "b"]
    assert await joined.complete("b", "word", "v", {}) == ["v!"]
    assert await joined.complete("b", "times", "v", {}) == []
