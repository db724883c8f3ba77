"""An LLM as judge of what rules cannot settle, on any OpenAI-compatible endpoint (a vLLM server included).

A request goes through four doors, the cheap ones first: hedges are scored 0 by rule (`rlcs.rewards.hedging`); a verdict
given before comes from the cache; equal requests of a batch are asked once; the rest are asked at the same time, up to a
limit. A reply must be one JSON object of the domain's form (`rlcs.rewards.judge_prompts`): a reply that is none is asked
for once more, and then there is no verdict, which is None and no score.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rlcs.errors import RewardError
from rlcs.rewards.background_loop import BackgroundLoop
from rlcs.rewards.hedging import find_hedge
from rlcs.rewards.judge_cache import VerdictCache
from rlcs.rewards.judge_endpoint import Endpoint
from rlcs.rewards.judge_prompts import (
    DOMAINS,
    PROMPT_VERSION,
    clean_request,
    messages_for,
    parse_verdict,
    rules_of,
)
from rlcs.rewards.verifier import JudgeRequest
from rlcs.types import Score

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
"""A bad verdict is asked for once more."""


def make_judge(
    base_url: str | None = None,
    model: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    max_tokens: int = 512,
    concurrency: int = 16,
    timeout_s: float = 60.0,
    max_retries: int = 4,
    cache: str | Path | None = None,
    max_length_ratio: float = 20.0,
) -> LLMJudge | None:
    """The judge of a configuration (the arguments are the fields of `JudgeConfig`), or None where there is no endpoint.

    Nothing is asked of the endpoint before the first request; `LLMJudge.check` finds out whether it is there.

    Raises:
        RewardError: there is an endpoint but no model, the cache cannot be used, or the `openai` package is missing.
    """
    if base_url is None:
        return None
    if model is None:
        raise RewardError("reward.judge.base_url is given, but not reward.judge.model: name the model at the endpoint")
    endpoint = Endpoint(
        base_url, model, api_key_env=api_key_env, max_tokens=max_tokens, timeout_s=timeout_s, max_retries=max_retries
    )
    return LLMJudge(endpoint, VerdictCache(cache), concurrency=concurrency, max_length_ratio=max_length_ratio)


class LLMJudge:
    """A judge (`rlcs.rewards.verifier.Judge`) on an endpoint. Safe for several threads, also under a running event loop.

    Args:
        endpoint: whom to ask.
        cache: verdicts given before.
        concurrency: requests at once, over all threads.
        max_length_ratio: an answer longer than this many times the reference, and than a page, is a hedge.
    """

    def __init__(
        self, endpoint: Endpoint, cache: VerdictCache, *, concurrency: int, max_length_ratio: float = 20.0
    ) -> None:
        self._endpoint = endpoint
        self._cache = cache
        self._concurrency = concurrency
        self._max_length_ratio = max_length_ratio
        self._slots: asyncio.Semaphore | None = None
        self._loop = BackgroundLoop("rlcs-judge")
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Score | None]:
        """A score for each request; None where no verdict could be had.

        Raises:
            RewardError: the endpoint refuses the key or has no such model: every request would fail.
        """
        scores: list[Score | None] = [None] * len(requests)
        asked: dict[str, JudgeRequest] = {}
        keys: dict[int, str] = {}
        for index, request in enumerate(map(clean_request, requests)):
            hedge = find_hedge(
                request.answer, request.reference, domain=request.domain, max_length_ratio=self._max_length_ratio
            )
            if not request.answer:
                scores[index] = Score(0.0, correct=False, detail="the answer is empty")
            elif hedge is not None:
                scores[index] = Score(0.0, correct=False, detail=f"hedge: {hedge}")
                self._count("hedged")
            else:
                keys[index] = key = self._key(request)
                asked[key] = request
        known = self._known(asked)
        for index, key in keys.items():
            score = known.get(key)
            if score is not None:
                scores[index] = score
        self._count("cached", sum(key in known for key in keys.values()))
        missing = {key: request for key, request in asked.items() if key not in known}
        if missing:
            verdicts = self._ask(missing)
            for index, key in keys.items():
                if key in missing:
                    scores[index] = verdicts.get(key)
        return scores

    def check(self) -> None:
        """Find out whether the endpoint is there and has the model; for the start of a run.

        Raises:
            RewardError: it is not, or refuses the key.
        """
        self._loop.run(self._endpoint.check())

    def limit_s(self, num_requests: int) -> float:
        """The longest that `judge` takes for so many requests, in seconds, if no other thread asks."""
        rounds = -(-num_requests // self._concurrency)
        return rounds * _ATTEMPTS * self._endpoint.limit_s

    def take_counts(self) -> dict[str, int]:
        """Events since the last call.

        `judge_judged` (verdicts from the endpoint), `judge_cached`, `judge_hedged`, `judge_no_verdict`,
        `judge_bad_replies`, `judge_requests`, `judge_retries` and `judge_latency_ms` (the sum over requests).
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return {f"judge_{event}": times for event, times in counts.items() if times}

    def close(self) -> None:
        """Close connections, thread and cache. May be called more than once; the judge cannot be used afterwards."""
        self._loop.run(self._endpoint.close())
        self._loop.close()
        self._cache.close()

    def _key(self, request: JudgeRequest) -> str:
        content = [
            PROMPT_VERSION,
            self._endpoint.model,
            request.domain if request.domain in DOMAINS else "general",
            request.question,
            request.reference,
            request.answer,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _known(self, asked: dict[str, JudgeRequest]) -> dict[str, Score]:
        """Scores of the verdicts in the cache; one that is damaged is asked for again."""
        known = {}
        for key, text in self._cache.get_many(asked).items():
            verdict = parse_verdict(text, asked[key].domain)
            if verdict is not None:
                known[key] = verdict.to_score()
        return known

    def _ask(self, missing: dict[str, JudgeRequest]) -> dict[str, Score]:
        """Scores of those requests that get a verdict. Verdicts are kept also if a later request raises."""
        texts: dict[str, str] = {}
        problems: dict[str, str] = {}
        try:
            self._loop.run(self._ask_all(missing, texts, problems))
        finally:
            self._cache.put_many(dict(texts))
        if problems:
            self._count("no_verdict", len(problems))
            problem = next(iter(problems.values()))
            logger.warning("judge: no verdict on %d of %d requests: %s", len(problems), len(missing), problem)
        scores = {}
        for key, text in texts.items():
            verdict = parse_verdict(text, missing[key].domain)
            assert verdict is not None  # it was parsed before it was kept
            scores[key] = verdict.to_score()
        return scores

    async def _ask_all(self, missing: dict[str, JudgeRequest], texts: dict[str, str], problems: dict[str, str]) -> None:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._concurrency)
        tasks = [
            asyncio.create_task(self._ask_one(key, request, self._slots, texts, problems))
            for key, request in missing.items()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            # Nobody else waits for those that were cancelled, and what they would raise is known already.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_one(
        self,
        key: str,
        request: JudgeRequest,
        slots: asyncio.Semaphore,
        texts: dict[str, str],
        problems: dict[str, str],
    ) -> None:
        form = rules_of(request.domain).verdict
        async with slots:
            for attempt in range(_ATTEMPTS):
                messages = messages_for(request, secrets.token_hex(8), again=attempt > 0)
                started = time.perf_counter()
                reply = await self._endpoint.ask(messages, form)
                self._count("requests")
                self._count("retries", reply.retries)
                self._count("latency_ms", round(1000 * (time.perf_counter() - started)))
                if reply.text is None and not reply.is_malformed:
                    problems[key] = reply.problem
                    return
                verdict = None if reply.text is None else parse_verdict(reply.text, request.domain)
                if verdict is not None:
                    texts[key] = verdict.model_dump_json()
                    problems.pop(key, None)
                    self._count("judged")
                    return
                self._count("bad_replies")
                problems[key] = (
                    reply.problem or f"not one JSON object of the form asked for: {(reply.text or '')[:80]!r}"
                )

    def _count(self, event: str, times: int = 1) -> None:
        with self._lock:
            self._counts[event] += times
