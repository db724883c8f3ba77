"""One question to an OpenAI-compatible endpoint, in whatever dialect of the protocol it understands.

The `openai` package does connections, retries and growing pauses (408, 409, 429 with Retry-After, 5xx, time-outs,
broken connections). What is ours: a deadline over all of it, the way back from what a server refuses, and the difference
between a failure that passes (no reply) and one that will not (a wrong key or model: RewardError).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlcs.errors import RewardError, one_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from pydantic import BaseModel

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
"""The pauses of the `openai` package: doubled from the first to the longest."""


_FORMATS = ("json_schema", "json_object", "text")
"""What a server may be able to hold a model to."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str | None
    """The model's text; None if there is none."""
    problem: str = ""
    """Why there is none, in one line."""
    retries: int = 0
    is_malformed: bool = False
    """The server answered, but not with a chat completion."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What of the protocol a server takes."""

    format: str = "json_schema"
    limit: str = "max_tokens"
    temperature: bool = True

    def arguments(self, max_tokens: int, schema: dict[str, Any]) -> dict[str, Any]:
        arguments: dict[str, Any] = {self.limit: max_tokens}
        if self.temperature:
            arguments["temperature"] = 0.0
        if self.format == "json_schema":
            form = {"name": "verdict", "strict": True, "schema": schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": form}
        elif self.format == "json_object":
            arguments["response_format"] = {"type": "json_object"}
        return arguments

    @property
    def rank(self) -> int:
        """Grows with what is given up."""
        return _FORMATS.index(self.format) + (self.limit != "max_tokens") + (not self.temperature)

    def simpler(self, complaint: str) -> _Dialect | None:
        """What to try after a refusal; None if there is nothing left."""
        if "max_completion_tokens" in complaint and self.limit == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        if "temperature" in complaint and self.temperature:
            return replace(self, temperature=False)
        if self.format == _FORMATS[-1]:
            return None
        return replace(self, format=_FORMATS[_FORMATS.index(self.format) + 1])


class Endpoint:
    """A model at an endpoint. Used on one event loop, that of the first `ask`.

    Args:
        base_url, model: where it is and what it is called there.
        api_key_env: environment variable with the key, read when the first question is asked; none is sent if unset.
        timeout_s: limit of one attempt.
        max_retries: attempts after the first.

    Raises:
        RewardError: the `openai` package is not installed.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key_env: str, max_tokens: int, timeout_s: float, max_retries: int
    ) -> None:
        from importlib.util import find_spec

        if find_spec("openai") is None:
            raise RewardError("reward.judge needs the package openai: pip install openai")
        self.base_url = base_url
        self.model = model
        self._api_key_env = api_key_env
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._dialect = _Dialect()
        self._client: AsyncOpenAI | None = None

    @property
    def limit_s(self) -> float:
        """The longest that one question takes: all attempts with the pauses between them."""
        pauses = sum(min(_FIRST_PAUSE_S * 2.0**n, _LONGEST_PAUSE_S) for n in range(self._max_retries))
        return (self._max_retries + 1) * self._timeout_s + pauses

    async def ask(self, messages: list[dict[str, str]], form: type[BaseModel]) -> Reply:
        """The model's reply, asked to be a JSON object of a form.

        Raises:
            RewardError: the endpoint refuses the key, or has no such model or address.
        """
        import openai

        dialect = self._dialect
        schema = form.model_json_schema()
        while True:
            arguments = dialect.arguments(self._max_tokens, schema) | {"model": self.model, "messages": messages}
            try:
                # A server that sends a byte now and then never runs into the time-out of an attempt.
                async with asyncio.timeout(self.limit_s):
                    raw = await self._connected().chat.completions.with_raw_response.create(**arguments)
                break
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                simpler = dialect.simpler(str(error))
                if simpler is None:
                    return Reply(None, f"refused: {_one_line(error)}")
                dialect = simpler
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise RewardError(
                    f"reward.judge: {self.base_url} refuses the key in the environment variable {self._api_key_env} "
                    f"({_one_line(error)}); set it"
                ) from error
            except openai.NotFoundError as error:
                raise RewardError(
                    f"reward.judge: {self.base_url} has no model {self.model!r}, or is no such address "
                    f"({_one_line(error)}); mend reward.judge.model or reward.judge.base_url"
                ) from error
            except (openai.APITimeoutError, TimeoutError):
                return Reply(None, f"no reply within {self._timeout_s:g} s", self._max_retries)
            except openai.OpenAIError as error:
                tried_again = isinstance(
                    error, (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
                )
                return Reply(None, _one_line(error), self._max_retries * tried_again)
        if dialect.rank > self._dialect.rank:
            logger.info("judge: %s takes %s", self.base_url, dialect)
            self._dialect = dialect
        text = _content_of(raw.text)
        problem = "" if text is not None else f"not a chat completion: {raw.text[:80]!r}"
        return Reply(text, problem, raw.retries_taken, is_malformed=text is None)

    async def check(self) -> None:
        """Ask the endpoint for its models.

        Raises:
            RewardError: it does not answer, refuses the key, or says that it has no such model.
        """
        import openai

        try:
            async with asyncio.timeout(self.limit_s):
                names = [model.id for model in (await self._connected().models.list()).data]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise RewardError(
                f"reward.judge: {self.base_url} refuses the key in the environment variable {self._api_key_env} "
                f"({_one_line(error)}); set it"
            ) from error
        except (openai.APIConnectionError, openai.InternalServerError, TimeoutError) as error:
            raise RewardError(
                f"reward.judge: no judge answers at {self.base_url} ({_one_line(error)}); start it, "
                "or mend reward.judge.base_url"
            ) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):
            return  # not every server can list its models
        if names and self.model not in names:
            shown = ", ".join(sorted(names)[:5])
            raise RewardError(f"reward.judge: {self.base_url} has no model {self.model!r}; it has {shown}")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI

            self._client = AsyncOpenAI(
                base_url=self.base_url,
                # Never the package's own default: it would send OPENAI_API_KEY to any endpoint.
                api_key=os.environ.get(self._api_key_env) or "none",
                timeout=self._timeout_s,
                max_retries=self._max_retries,
            )
        return self._client


def _content_of(body: str) -> str | None:
    """The text of a chat completion, or None if the body is none."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return content if isinstance(content, str) else None


def _one_line(error: Exception) -> str:
    cause = error.__cause__
    return one_line(error, 200) + (f" {one_line(cause, 100)}" if cause is not None else "")
