"""One in-process vLLM engine: continuous batching over pulled requests, and weight updates in place.

The engine lives in a Ray actor (`rlcs.rollout.fleet`), but knows nothing of Ray. vLLM reads environment variables when
it is imported: `engine_env` gives those that the process must be started with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.adapters import base_model, is_packed_adapter
from rlcs.config import ModelConfig, RolloutConfig
from rlcs.errors import DeadlineError, EngineError, RLCSError, first_line
from rlcs.rollout.adapter import EngineAdapter
from rlcs.rollout.backend import VllmBackend, multi_modal_data, sampled_logprobs, sampling_params
from rlcs.rollout.episodes import EpisodePlayer, EpisodeSettings, PolicySide
from rlcs.rollout.force_answer import ForceAnswer, Sampled
from rlcs.rollout.work import Answer, SamplingSettings, Take
from rlcs.types import FinishReason, Prompt, Response
from rlcs.vision.environment import vision_env
from rlcs.vision.pixels import Loadable
from rlcs.vision.processing import VisionProcessor, media_tokens
from rlcs.weights import to_tensors

_HEAD = "lm_head.weight"


def engine_env(config: RolloutConfig) -> dict[str, str]:
    """Environment variables of an engine's process."""
    threads = str(max(1, int(config.cpus_per_engine)))
    # vLLM compiles a few small functions even in eager mode: on a CPU a minute of C++ at the first start, and a compiler.
    compilation = {"TORCH_COMPILE_DISABLE": "1"} if config.enforce_eager else {}
    return {
        **compilation,
        **vision_env(),
        # In a Ray actor the engine core must not start a process of its own: it would need a __main__ guard.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(config.cpu_kv_cache_gib),
        # By default every engine binds itself to the same first cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        # A reload allocates and frees buffers as large as the weights. By default the C library gives such memory back
        # to the system at once, and the next reload pays for every page again.
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**34),
    }


@dataclass(slots=True)
class _Partial:
    """A prompt whose responses are still being made."""

    responses: list[Sampled]
    prompt_ids: NDArray[np.int32] | None = None
    running: int = field(init=False)

    def __post_init__(self) -> None:
        self.running = len(self.responses)


class Engine:
    """A vLLM engine and the tokenizer of its policy.

    Raises:
        EngineError: vLLM could not load the model.
    """

    def __init__(
        self,
        model_path: str,
        model: ModelConfig,
        config: RolloutConfig,
        *,
        max_model_len: int,
        seed: int,
        version: int = 0,
        takes_turns: bool = False,
        transfer: str | None = None,
        episodes: EpisodeSettings | None = None,
    ) -> None:
        """`takes_turns`: the engine shares its GPUs with the learner, and can `sleep`; without a GPU it never does.
        `transfer`: vLLM's weight-transfer engine that weights will come through (`rlcs.weight_sync`), if any. `episodes`:
        who plays with the policy where tasks have several turns.
        """
        from vllm import LLM

        from rlcs.models import load_tokenizer

        self.policy_version = version
        self._is_torn = False
        self._config = config
        self._sleeps = takes_turns and _has_gpu()
        self._is_asleep = False
        # In a placement group vLLM would ask Ray for GPUs of its own.
        backend: dict[str, Any] = {"distributed_executor_backend": "mp"} if config.tensor_parallel_size > 1 else {}
        base = base_model(model_path)
        self._adapter: EngineAdapter | None = None
        if model.lora is not None or base != model_path:
            self._adapter = EngineAdapter(model_path, base, model, on_gpu=config.gpus_per_engine > 0)
        self._tokenizer = load_tokenizer(model_path, trust_remote_code=model.trust_remote_code)
        try:
            self._llm = LLM(
                base,
                dtype=model.dtype,
                trust_remote_code=model.trust_remote_code,
                tensor_parallel_size=config.tensor_parallel_size,
                gpu_memory_utilization=config.gpu_memory_utilization,
                enforce_eager=config.enforce_eager,
                max_model_len=max_model_len,
                max_num_seqs=config.max_num_seqs,
                seed=seed,
                # The learner computes logprobs of the tempered distribution; so must the engine.
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                enable_sleep_mode=self._sleeps,
                weight_transfer_config={"backend": transfer} if transfer else None,
                worker_extension_cls="rlcs.seeding.SeededWorker",
                **backend,
                **(self._adapter.options() if self._adapter is not None else {}),
            )
            if self._adapter is not None:
                self._adapter.load_initial(self._llm)
        except RLCSError:
            raise
        except Exception as error:  # vLLM raises anything here
            raise EngineError(
                f"vLLM could not load {model_path}: {first_line(error, typed=True)}{_memory_advice(error)}"
            ) from error
        self._engine: Any = self._llm.llm_engine
        hf_config = self._engine.model_config.hf_config
        text_config = hf_config.get_text_config()
        self._sees = bool(self._engine.model_config.is_multimodal_model)
        self._is_tied = bool(getattr(text_config, "tie_word_embeddings", False))
        self._episodes = episodes
        self._player: EpisodePlayer | None = None
        self._media_tokens = media_tokens(hf_config) if self._sees else frozenset()
        self._model_path, self._trusts = model_path, model.trust_remote_code
        self._processor: VisionProcessor | None = None

    def seed(self, position: Sequence[int], deterministic: bool = False) -> None:
        """Say where in the run the next call stands (`rlcs.seeding`); `deterministic`: nothing else counts for it."""
        self._llm.collective_rpc("rlcs_seed", args=(list(position), deterministic))
        if deterministic:
            self._llm.reset_prefix_cache()  # what is cached was computed in other batches, with other rounding

    def generate(
        self,
        prompts: Sequence[NDArray[np.int32]],
        counts: Sequence[int],
        settings: SamplingSettings,
        take: Take,
        deadline_s: float,
        media: Sequence[Loadable | None] = (),
    ) -> Iterator[Answer | None]:
        """`counts[i]` responses to each `prompts[i]` (token ids, [P]) whose index i `take` hands out.

        Yields each answer when its last response is done, and None after every step, as a sign of life.

        `media[i]`: what prompt i shows, one placeholder token in `prompts[i]` for each picture and video; empty if all
        is text.

        Raises:
            EngineError: a request failed.
            DeadlineError: `deadline_s` seconds have passed.
        """
        self._check_whole()
        params = sampling_params(settings)
        force = None
        if settings.thinking_budget is not None:
            force = ForceAnswer.of(settings.thinking_budget, self._tokenizer)
        first_limit = settings.max_tokens if force is None else min(force.budget, settings.max_tokens)
        lora = self._adapter.request if self._adapter is not None else None
        usual = max(1, round(sum(counts) / max(1, len(counts))))  # responses a prompt
        deadline = time.monotonic() + deadline_s
        partial_answers: dict[int, _Partial] = {}
        num_running = sequences = 0
        queue_is_empty = False

        def request(index: int, more: Sequence[int] = ()) -> dict[str, Any]:
            found: dict[str, Any] = {"prompt_token_ids": [*prompts[index].tolist(), *more]}
            shown = media[index] if media else None
            if shown is not None:
                found["multi_modal_data"] = multi_modal_data(shown.load())
            return found

        try:
            while True:
                room = max(int(num_running == 0), (self._config.max_num_seqs - sequences) // usual)
                if not queue_is_empty and room > 0:
                    indices = take(room)
                    queue_is_empty = not indices
                    for index in indices:
                        self._engine.add_request(
                            str(index),
                            request(index),
                            params(n=counts[index], max_tokens=first_limit),
                            lora_request=lora,
                        )
                        partial_answers[index] = _Partial([Sampled() for _ in range(counts[index])])
                        sequences += counts[index]
                    num_running += len(indices)
                if num_running == 0:
                    return
                for output in self._engine.step():
                    if not output.finished:
                        continue
                    index, sample = _parse_id(output.request_id)
                    answer = partial_answers[index]
                    places = [sample] if sample is not None else [part.index for part in output.outputs]
                    if sample is None and media and media[index]:
                        answer.prompt_ids = np.asarray(output.prompt_token_ids, np.int32)
                    for place, part in zip(places, output.outputs, strict=True):
                        tokens = list(part.token_ids)
                        logprobs = sampled_logprobs(part.logprobs, len(tokens))
                        response = answer.responses[place]
                        response.extend(tokens, logprobs, is_cut=part.finish_reason == "length")
                        inserted = None if force is None else force.continuation(response, settings.max_tokens)
                        if inserted is None:
                            sequences -= 1
                            answer.running -= 1
                            continue
                        response.force(inserted)
                        left = settings.max_tokens - len(response.token_ids)
                        # What stands before is in the prefix cache.
                        self._engine.add_request(
                            f"{index}/{place}",
                            request(index, response.token_ids),
                            params(n=1, max_tokens=left),
                            lora_request=lora,
                        )
                    if not answer.running:
                        num_running -= 1
                        del partial_answers[index]
                        yield Answer(index, self._responses(answer.responses), answer.prompt_ids)
                yield None
                if time.monotonic() > deadline:
                    raise DeadlineError(
                        f"an engine did not finish within rollout.timeout_s ({self._config.timeout_s:g} s); "
                        f"{num_running} prompts were still running: raise the limit or lower max_completion_length"
                    )
        except EngineError:
            raise
        except Exception as error:  # vLLM raises anything here
            raise EngineError(
                f"vLLM failed while generating: {first_line(error, typed=True)}{_memory_advice(error)}"
            ) from error

    def play(
        self,
        prompts: Sequence[NDArray[np.int32]],
        counts: Sequence[int],
        settings: SamplingSettings,
        take: Take,
        deadline_s: float,
        tasks: Sequence[Prompt],
        media: Sequence[Loadable | None] = (),
    ) -> Iterator[Answer | None]:
        """As `generate`, but each response is an episode of the environment that the engine was made with; `tasks[i]` is
        what `prompts[i]` was made of.
        """
        self._check_whole()
        if self._player is None:
            assert self._episodes is not None  # the fleet asks for episodes where it has settings for them
            self._player = EpisodePlayer(self._episodes)
        lora = self._adapter.request if self._adapter is not None else None
        backend = VllmBackend(self._engine, sampling_params(settings), lora)
        policy = PolicySide(
            self._tokenizer, self.policy_version, self._sees, self._media_tokens, self._count_image_tokens
        )
        most = self._config.max_num_seqs
        try:
            yield from self._player.play(
                backend, policy, tasks, prompts, counts, settings, take, deadline_s, most, media
            )
        except RLCSError:
            raise
        except Exception as error:  # vLLM raises anything here
            raise EngineError(
                f"an engine failed while playing: {first_line(error, typed=True)}{_memory_advice(error)}"
            ) from error

    def sleep(self) -> None:
        """Leave the GPU to the learner: weights wait in host memory, the KV cache is forgotten."""
        if self._sleeps and not self._is_asleep:
            self._llm.sleep(level=1)
            self._is_asleep = True

    def wake(self) -> None:
        """Take the GPU back."""
        if self._is_asleep:
            self._llm.wake_up()
            self._is_asleep = False

    def load_weights(self, weights: Mapping[str, NDArray[Any]], version: int) -> None:
        """Put `weights` (Hugging Face names, see `rlcs.weights`, or a packed adapter) in place as `version`."""
        self.wake()
        if is_packed_adapter(weights):
            assert self._adapter is not None  # the learner has an adapter where the engine has one
            self._is_torn = True
            self._adapter.load(self._llm, weights)
            self.adopt(version)
            return
        tensors = list(to_tensors(weights).items())
        # vLLM copies tied embeddings into a head of its own, which a reload must fill again.
        if self._is_tied and not any(name == _HEAD for name, _ in tensors):
            tensors += [(_HEAD, value) for name, value in tensors if name.endswith("embed_tokens.weight")]
        self._is_torn = True
        # `load_weights` of the live model fails on a CPU, where linear layers are repacked at load; this does not.
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(tensors)})
        self.adopt(version)

    def transfer(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Call a method of vLLM's workers that has to do with weight transfer; `adopt` ends an update."""
        if method == "start_weight_update":
            self.wake()
            self._is_torn = True
        self._llm.collective_rpc(method, kwargs=dict(arguments))

    def adopt(self, version: int) -> None:
        """All weights of `version` are in place: forget what was computed with others."""
        self._llm.reset_prefix_cache()
        if self._sees:
            # The reload empties the worker's cache of image features; without this the scheduler would not know.
            self._engine.reset_encoder_cache()
            self._llm.reset_mm_cache()
        self.policy_version = version
        self._is_torn = False

    def _check_whole(self) -> None:
        if self._is_torn:
            raise EngineError(
                f"an engine got only a part of the weights after version {self.policy_version}: it cannot generate"
            )

    def _count_image_tokens(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens that stand for pictures of so many pixels (height, width)."""
        if self._processor is None:
            self._processor = VisionProcessor(self._model_path, trust_remote_code=self._trusts)
        return self._processor.image_tokens(sizes)

    def _responses(self, sampled: Sequence[Sampled]) -> list[Response]:
        eos = self._tokenizer.eos_token_id
        ids = [each.token_ids for each in sampled]
        texts = self._tokenizer.batch_decode(
            [tokens[:-1] if tokens and tokens[-1] == eos else tokens for tokens in ids], skip_special_tokens=False
        )
        return [
            Response(
                token_ids=np.asarray(each.token_ids, dtype=np.int32),
                logprobs=np.asarray(each.logprobs, dtype=np.float32),
                loss_mask=np.asarray(each.loss_mask, dtype=bool),
                text=text,
                finish_reason=FinishReason.LENGTH if each.is_cut else FinishReason.STOP,
                policy_version=self.policy_version,
            )
            for each, text in zip(sampled, texts, strict=True)
        ]


def _parse_id(request_id: str) -> tuple[int, int | None]:
    """The prompt of a request, and of one that goes on with a response, which one."""
    index, _, sample = request_id.partition("/")
    return int(index), int(sample) if sample else None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


_OUT_OF_MEMORY = (
    "out of memory",
    "kv cache",
    "gpu_memory_utilization",
    "gpu memory utilization",
    "no available memory",
)


def _memory_advice(error: BaseException) -> str:
    """Which setting to lower, where `error` is about memory; else nothing."""
    text = f"{type(error).__name__} {error}".lower()
    if not any(sign in text for sign in _OUT_OF_MEMORY):
        return ""
    return (
        "; its memory is too small: lower rollout.max_completion_length or rollout.max_num_seqs, or raise "
        "rollout.gpu_memory_utilization or rollout.tensor_parallel_size (on a CPU rollout.cpu_kv_cache_gib)"
    )
