"""The 25 kinds of checkable instructions of IFEval (arXiv 2311.07911), one small function each, by theme.

A checker takes the answer and the instruction's arguments by name and says whether it is followed. Its work is linear
in the length of the answer, and nothing of a dataset is used as a regular expression. `registry` is the table.
"""
