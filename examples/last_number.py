"""A reward function of the README."""

import re


def last_number(prompts, completions, answer, **columns):
    """1 if the last number of the response is the answer."""
    scores = []
    for completion, reference in zip(completions, answer, strict=True):
        numbers = re.findall(r"-?\d+", completion[0]["content"])
        scores.append(float(bool(numbers) and numbers[-1] == reference))
    return scores
