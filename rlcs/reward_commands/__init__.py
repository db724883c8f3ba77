"""The commands that work with a reward alone: `rlcs score`, `rlcs reward-test` and `rlcs reward-new`.

None of them imports torch, vLLM or Ray, unless the reward itself does.
"""
