"""An environment of several turns: guess a number, and be told whether it is higher or lower."""

import itertools
import random
import re

from rlcs.envs.base import EpisodeEnvironment, Turn, WorkedSolution
from rlcs.types import Prompt, Score, prompt_id


class GuessNumber(EpisodeEnvironment):
    """The task `guess`: its level parameter `most` is the largest number."""

    max_turns = 6

    def levels(self, task):
        """See `Environment.levels`."""
        return [{"most": 3}, {"most": 7}, {"most": 15}, {"most": 31}]

    def generate(self, task, params, *, domain, tier, seed):
        """See `Environment.generate`."""
        rng = random.Random(f"{task}/{seed}")
        for number in itertools.count():
            secret = rng.randint(1, params["most"])
            text = f"Game {seed}-{number}: guess my number, 1 to {params['most']}."
            messages = [{"role": "user", "content": text}]
            metadata = {"most": params["most"]}
            yield Prompt(prompt_id(messages, str(secret)), messages, str(secret), domain, tier, metadata)

    def reset(self, prompt):
        """See `EpisodeEnvironment.reset`."""
        return {"low": 1, "high": prompt.metadata["most"]}

    def step(self, prompt, state, response):
        """See `EpisodeEnvironment.step`."""
        found = re.search(r"<\|begin_of_box\|>(\d+)<\|end_of_box\|>", response)
        if found is None:
            return Turn(state, [{"type": "text", "text": "Error: no number in a box."}])
        guess, secret = int(found[1]), int(prompt.answer)
        if guess == secret:
            return Turn(state, score=Score(1.0, correct=True, detail="found"))
        if guess < secret:
            return Turn({**state, "low": max(state["low"], guess + 1)}, [{"type": "text", "text": "Higher."}])
        return Turn({**state, "high": min(state["high"], guess - 1)}, [{"type": "text", "text": "Lower."}])

    def give_up(self, prompt, state):
        """See `EpisodeEnvironment.give_up`: a part of the reward for what is known."""
        known = 1 - (state["high"] - state["low"]) / max(1, prompt.metadata["most"] - 1)
        return Score(0.5 * known, correct=False, detail=f"the number is {state['low']} to {state['high']}")

    def solve_turn(self, prompt, state):
        """See `EpisodeEnvironment.solve_turn`: the middle of what is left."""
        low, high = state["low"], state["high"]
        return WorkedSolution(f"{low} to {high}", str((low + high) // 2))
