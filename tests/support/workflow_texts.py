"""Workflows that tests of several doors start."""

from typing import Final

# Waits for a signal and for an approval, and returns what the signal brought.
ASK: Final = """
name: ask
steps:
  first: {uses: transform, with: {value: 1}}
  paid: {needs: first, wait_for: paid}
  review: {needs: first, uses: approval, with: {prompt: "ship?"}}
  last:
    needs: [paid, review]
    uses: transform
    with: {value: "${{ steps.paid.output.payload }}"}
"""
