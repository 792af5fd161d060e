"""Expressions of definitions: read into words, checked for references and cost, evaluated."""
