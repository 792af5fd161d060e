"""Workflows as data: definitions, their expressions, the plan that the engine runs."""
