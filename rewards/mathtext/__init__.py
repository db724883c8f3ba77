"""Reading and comparing mathematical answers without evaluating any text.

| module | turns | into |
|---|---|---|
| `normalize` | a model's or a dataset's text | one plain spelling of it |
| `numbers` | the spelling of a number | a `Fraction` (the fast path) |
| `tokens`, `cursor`, `primaries`, `grammar` | any other answer | an expression tree of tuples (`tree`), under limits |
| `special_values`, `polynomials`, `exact` | a tree | a canonical quotient of polynomials, which proves equality |
| `numeric` | a tree | its value at 40 digits, which refutes it |
| `compare` | two trees | equal, different or undecided, structure by structure |
| `symbolic` | two undecided trees | the same by sympy, in a worker process that can be killed |

Only `symbolic` imports sympy.
"""
