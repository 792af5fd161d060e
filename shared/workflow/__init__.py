"""Workflows as data: definitions, their expressions, the plan that the engine runs.

A text goes through `loading` (YAML or JSON into values), `definition` (the shape), `checks` (what
the shape cannot say) and `plan` (steps in order); `reading` leads it through the first three, and
`runs` stores the plan and starts runs. Workers and the test bench, `trial`, decide by `decisions`
and `limits`.
"""
