"""Claude, by Anthropic's Messages API: one request a turn, always streamed, and never tried again from here.

What the API sends is passed on verbatim, as plain JSON. The journal keeps it and sends it back as it came, because
thinking blocks are bound to the exact turns before them.

The SDK takes seconds to import. That is done when a model is made, before its process takes mail: later it would hold
up the renewal of leases. Who uses no Claude does not import it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from shanty_protocol import Usage
from shanty_runtime.errors import ConfigError, ModelError
from shanty_runtime.models.base import Block, ModelReply, ModelRequest, Stream, ToolCard
from shanty_runtime.models.capabilities import capabilities
from shanty_runtime.models.failures import request_name, status_failure
from shanty_runtime.models.warming import Warming

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic, AsyncMessageStream

CONNECT_S = 5.0
IDLE_S = 120.0
"""How long the API may send nothing at all, not even one of the pings it sends while a model thinks."""

CREDENTIALS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_FEDERATION_RULE_ID",
)
"""Any of these tells the SDK who is calling."""

CACHED = {"type": "ephemeral"}

STRICT_TOOL = "submit_result"
"""The call every thread ends with: the API is asked to let through only arguments that match its schema."""

MAX_OPTIONAL_OF_STRICT = 24
CUT_OFF = ("max_tokens", "model_context_window_exceeded")
"""Stop reasons after which the last block may be a piece."""


def require_credentials(environment: Mapping[str, str]) -> None:
    """Raises ConfigError where a call could only fail. An address of one's own may want no key."""
    if not any(environment.get(name) for name in (*CREDENTIALS, "ANTHROPIC_BASE_URL")):
        raise ConfigError(
            "Claude needs a key: set ANTHROPIC_API_KEY, or set ANTHROPIC_BASE_URL to a gateway that has one, "
            "or SHANTY_MODEL=rehearsal to play the team without paying"
        )


class ClaudeApi:
    """The way to the API: one client, made with the first model and shared by all agents of a process.

    What is not given is taken from the environment: ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL.
    """

    def __init__(self, *, api_key: str | None = None, base_url: str | None = None, idle_s: float = IDLE_S) -> None:
        self.idle_s = idle_s
        self._api_key, self._base_url = api_key, base_url
        self._client: AsyncAnthropic | None = None

    @property
    def client(self) -> AsyncAnthropic:
        if self._client is None:
            self._client = self._made()
        return self._client

    def _made(self) -> AsyncAnthropic:
        import httpx2
        from anthropic import AsyncAnthropic

        anonymous = self._api_key is None and not any(os.environ.get(name) for name in CREDENTIALS)
        return AsyncAnthropic(
            api_key=self._api_key,
            # The SDK sends nothing without a credential, and some gateways want none.
            auth_token="none" if anonymous else None,
            base_url=self._base_url,
            timeout=httpx2.Timeout(self.idle_s, connect=CONNECT_S),
            # Each attempt has to be seen by the journal and the budget, so the engine makes them.
            max_retries=0,
            # Our own span stands for the call, and our trace ids are nobody else's business.
            open_telemetry=False,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def __aenter__(self) -> ClaudeApi:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


PROCESS_API = ClaudeApi()


class ClaudeModel:
    """One of Anthropic's models, by its id."""

    def __init__(self, name: str, api: ClaudeApi = PROCESS_API) -> None:
        self.name = name
        self.provider = "anthropic"
        self.api = api
        # Even after `import anthropic` this imports some hundreds of modules more.
        self._messages = api.client.messages
        self._warming = Warming()

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        parameters = {**call_parameters(self.name, request), "max_tokens": request.max_tokens}
        async with self._warming.turn(_beginning(request)) as begun:
            with self._failures_named():
                async with self._messages.stream(**parameters) as events:
                    return await _Reading(self.name, events, stream, begun).whole()

    async def count_tokens(self, request: ModelRequest) -> int:
        with self._failures_named():
            counted = await self._messages.count_tokens(**call_parameters(self.name, request))
            return counted.input_tokens

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Whatever the SDK raises becomes a ModelError; its own words may quote the conversation and stay behind."""
        import anthropic

        try:
            yield
        except anthropic.APIStatusError as error:
            raise status_failure(self.name, error) from None
        except anthropic.APITimeoutError as error:
            raise self._silence(error.__cause__) from None
        except anthropic.APIConnectionError as error:
            reason = type(error.__cause__ or error).__name__
            raise ModelError(f"{self.name} cannot be reached: {reason}", kind="transient") from None
        except anthropic.CredentialsError as error:
            reason = type(error).__name__
            raise ModelError(
                f"the credentials for {self.name} cannot be had: {reason}", kind="configuration"
            ) from None
        except anthropic.AnthropicError as error:
            raise ModelError(f"the call of {self.name} failed: {type(error).__name__}") from None

    def _silence(self, cause: BaseException | None) -> ModelError:
        import httpx2

        if isinstance(cause, httpx2.ConnectTimeout):
            return ModelError(f"{self.name} cannot be reached within {CONNECT_S:g} s", kind="transient")
        return ModelError(f"{self.name} sent nothing for {self.api.idle_s:g} s", kind="transient")


class _Reading:
    """One reply on its way in."""

    def __init__(
        self, model: str, events: AsyncMessageStream[Any], stream: Stream | None, begun: Callable[[], None]
    ) -> None:
        self.model, self.events, self.stream, self.begun = model, events, stream, begun
        self.offset = 0
        self.arguments: dict[int, str] = {}
        """The JSON of each tool call as it came. The SDK parses as much of it as there is, and tells nobody."""
        self.open_blocks: set[int] = set()
        self.seen: set[str] = set()
        """The kinds of events that came."""

    async def whole(self) -> ModelReply:
        """The reply, once its last event is in. Raises ModelError for anything less."""
        self._check_that_it_is_a_stream()
        async with contextlib.aclosing(self._readable()) as events:
            async for event in events:
                self._take(event)
        if self.open_blocks or not {"message_start", "message_stop"} <= self.seen:
            raise self._broken("ended before its reply was complete")
        message = self.events.current_message_snapshot
        # What is not of the type that the SDK expects comes out all the same; it only warns about it.
        blocks: tuple[Block, ...] = tuple(block.to_dict(mode="json", warnings=False) for block in message.content)
        if message.stop_reason is None:
            raise self._broken("ended its reply without a reason")
        self._check_arguments(blocks, message.stop_reason)
        details = message.stop_details
        return ModelReply(
            blocks=blocks,
            stop_reason=message.stop_reason,
            model=message.model,
            usage=Usage(
                input_tokens=message.usage.input_tokens,
                output_tokens=message.usage.output_tokens,
                cache_read_tokens=message.usage.cache_read_input_tokens or 0,
                cache_write_tokens=message.usage.cache_creation_input_tokens or 0,
            ),
            stop_details=None if details is None else details.to_dict(mode="json"),
            id=message.id,
        )

    def _check_that_it_is_a_stream(self) -> None:
        media_type = self.events.response.headers.get("content-type", "").partition(";")[0]
        if media_type != "text/event-stream":
            raise ModelError(
                f"what answers for {self.model} sends {media_type or 'something'} in place of events"
                f"{request_name(self.events.response.headers)}; check ANTHROPIC_BASE_URL",
                kind="configuration",
            )

    async def _readable(self) -> AsyncGenerator[Any, None]:
        """The events, while they can be read. Beyond its own errors the SDK lets through what its parser raises."""
        import httpx2

        try:
            async for event in self.events:
                yield event
        except httpx2.TimeoutException:
            raise self._broken("fell silent in the middle of its reply") from None
        except httpx2.HTTPError as error:
            raise self._broken(f"broke off its reply ({type(error).__name__})") from None
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
            raise self._broken(f"sent what cannot be read ({type(error).__name__})") from None

    def _take(self, event: Any) -> None:
        self.seen.add(event.type)
        match event.type:
            case "message_start":
                self.begun()
            case "text":
                if self.stream is not None:
                    self.stream.text(event.text, self.offset)
                self.offset += len(event.text)
            case "content_block_start":
                self.open_blocks.add(event.index)
            case "content_block_delta" if event.delta.type == "input_json_delta":
                self.arguments[event.index] = self.arguments.get(event.index, "") + event.delta.partial_json
            case "content_block_stop":
                self.open_blocks.discard(event.index)

    def _check_arguments(self, blocks: tuple[Block, ...], stop_reason: str) -> None:
        """A call whose arguments are a piece of JSON is only let through where the stop reason says so."""
        for index, block in enumerate(blocks):
            if block["type"] != "tool_use" or (index == len(blocks) - 1 and stop_reason in CUT_OFF):
                continue
            try:
                msgspec.json.decode(self.arguments.get(index) or "{}", type=dict[str, Any])
            except msgspec.DecodeError:
                raise self._broken("sent a tool call whose arguments are not a JSON object") from None

    def _broken(self, how: str) -> ModelError:
        return ModelError(f"{self.model} {how}{request_name(self.events.response.headers)}", kind="transient")


def call_parameters(model: str, request: ModelRequest) -> dict[str, Any]:
    """What is sent besides `max_tokens`. System prompt and tools are the same bytes at each turn of an agent, so that
    all of its threads share their cached prefix; the second mark moves along with the end of the transcript."""
    takes = capabilities(model)
    parameters: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": message.role, "content": content}
            for message in request.messages
            if (content := [block for block in message.content if not _is_blank(block)])
        ],
    }
    if request.system:
        parameters["system"] = [{"type": "text", "text": request.system, **_marked(request)}]
    if request.tools:
        parameters["tools"] = [_tool(card) for card in request.tools]
    if request.cache:
        parameters["cache_control"] = CACHED
    if request.effort is not None and takes.effort:
        parameters["output_config"] = {"effort": request.effort}
    if takes.thinking != "none":
        parameters["thinking"] = _thinking(request, always=takes.thinking == "always")
    return parameters


def _beginning(request: ModelRequest) -> str:
    """What the calls of an agent have in common, as a digest."""
    return hashlib.sha256(request.system.encode() + msgspec.json.encode(request.tools)).hexdigest()


def _is_blank(block: Block) -> bool:
    """The API sends empty text now and then, and refuses to take it back."""
    return block["type"] == "text" and not block["text"].strip()


def _marked(request: ModelRequest) -> dict[str, Any]:
    return {"cache_control": CACHED} if request.cache else {}


def _thinking(request: ModelRequest, *, always: bool) -> dict[str, str]:
    if request.thinking == "off" and not always:
        return {"type": "disabled"}
    # Not shown unless asked for, and it is all that a model says between its tool calls.
    return {"type": "adaptive", "display": "summarized" if request.thinking == "summarized" else "omitted"}


def _tool(card: ToolCard) -> dict[str, Any]:
    tool = {"name": card.name, "description": card.description, "input_schema": card.input_schema}
    return {**tool, "strict": True} if card.name == STRICT_TOOL and allows_strict(card.input_schema) else tool


def allows_strict(schema: dict[str, Any]) -> bool:
    """Whether the API can hold a model to a schema: every object closed, and nothing in it beyond plain shapes."""
    optional = 0
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict) or not set(part) <= STRICT_WORDS or not isinstance(part.get("type", ""), str):
            return False
        if not part.keys() & {"type", "anyOf", "enum", "const"}:
            return False
        properties = part.get("properties", {})
        if part.get("type") == "object":
            if part.get("additionalProperties") is not False:
                return False
            optional += len(properties.keys() - set(part.get("required", [])))
        waiting += [*properties.values(), *part.get("anyOf", []), *([part["items"]] if "items" in part else [])]
    return optional <= MAX_OPTIONAL_OF_STRICT


STRICT_WORDS = {
    "type",
    "title",
    "description",
    "default",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
}
