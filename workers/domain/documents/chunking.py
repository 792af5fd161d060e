"""Cut a text into chunks of at most so many tokens, at places that an edit leaves alone.

Packing from the top would move every later boundary when a word is added to the first page. Here
all boundaries stand at first: between blocks, and inside blocks that are too large for one chunk.
Then they fall, from the weakest to the strongest and by a hash of the text behind them among
equals, wherever the two neighbours fit into one chunk. Who falls depends only on the text within
a few chunks. A last pass divides a chunk between its neighbours where both have room, which fills
the chunks from about 72 to 80 %, and never tears a section apart to do so.
"""

import hashlib
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from workers.domain.documents import cut_points, markdown_blocks

CountMany = Callable[[Sequence[str]], list[int]]
Headings = tuple[str, ...]

# Strengths above those of `pieces`. A heading holds on to what follows; a heading of level 1 is
# the strongest place to cut; a chunk never spans a wide gap, which would be paid for in tokens.
_GLUE, _ATTACHED, _PARAGRAPH, _HEADING, _GAP = 0, 5, 6, 13, 99
_GAP_CHARS: Final = 256
# A block with more characters a token than this is not prose; it is cut without being counted,
# so that the tokenizer never gets a line of megabytes.
_CHARS_PER_TOKEN_MAX: Final = 16
_BLANK_TOKENS: Final = 16
_HASHED_CHARS: Final = 64
TOKENS_MAX_LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a text.

    Attributes:
        index: Its place, from 0.
        start: Offset of its first code point in the text.
        end: Offset after its last; `text[start:end] == content`.
        content: Its text, without white space at the ends.
        token_count: Its exact count, 1 to `tokens_max`.
        headings: Titles of the sections it begins in, outermost first.
        sha256: Hex digest of the content in UTF-8.
    """

    index: int
    start: int
    end: int
    content: str
    token_count: int
    headings: Headings
    sha256: str


@dataclass(slots=True)
class _Atom:
    """A span that stays whole, and how strong the boundary before it is."""

    start: int
    end: int
    strength: int
    headings: Headings
    tokens: int = -1
    rows: bool = False
    is_heading: bool = False


def chunk(
    text: str, *, tokens_max: int, count_many: CountMany, kind: markdown_blocks.Kind
) -> list[Chunk]:
    """Cut a text into chunks.

    Args:
        text: Valid Unicode, without lone surrogates; NULs are kept, so strip them before.
        tokens_max: Upper limit of every chunk, in tokens of `count_many`, >= 8.
        count_many: Exact token count of each text; a token is at least one UTF-8 byte.
        kind: `markdown` knows headings, fences, tables and lists; `plain` only blank lines.

    Returns:
        Chunks in order, not overlapping, that hold every character but white space. No boundary
        falls inside a grapheme cluster, but in one that is over the limit by itself.

    Raises:
        UnicodeEncodeError: The text holds a lone surrogate.
    """
    assert tokens_max >= TOKENS_MAX_LEAST, "too few tokens to hold any grapheme"
    atoms = _atoms(text, kind, tokens_max, count_many)
    if not atoms:
        return []
    ranks = [_rank(text, atom) for atom in atoms]
    firsts = _merged([atom.tokens for atom in atoms], ranks, tokens_max)
    firsts = _divided([atom.tokens for atom in atoms], ranks, firsts, tokens_max)
    groups = [atoms[first:last] for first, last in pairwise([*firsts, len(atoms)])]
    sealed = _sealed(text, groups, tokens_max, count_many)
    return [
        Chunk(
            index,
            start,
            end,
            content,
            tokens,
            headings,
            hashlib.sha256(content.encode()).hexdigest(),
        )
        for index, (start, end, content, tokens, headings) in enumerate(sealed)
    ]


# ---- atoms


def _atoms(
    text: str, kind: markdown_blocks.Kind, tokens_max: int, count_many: CountMany
) -> list[_Atom]:
    """Blocks, and the parts of those that are too large; each at most `tokens_max` by its count."""
    atoms = _block_atoms(text, kind)
    _measure(text, atoms, tokens_max, count_many)
    _leave_room_for_headings(atoms, tokens_max)
    for parts_of in (_soft_parts, _hard_parts, _raw_parts):
        if all(atom.tokens <= tokens_max for atom in atoms):
            break
        atoms = [
            part
            for atom in atoms
            for part in (parts_of(text, atom, tokens_max) if atom.tokens > tokens_max else (atom,))
        ]
        _measure(text, atoms, tokens_max, count_many)
    return atoms


def _leave_room_for_headings(atoms: list[_Atom], tokens_max: int) -> None:
    """Have a paragraph cut that has no room beside its heading; a table or code is not."""
    lead = 0
    for atom in atoms:
        if lead < tokens_max < lead + atom.tokens and not atom.rows:
            atom.tokens = tokens_max + 1
        lead = lead + atom.tokens if atom.is_heading else 0


def _block_atoms(text: str, kind: markdown_blocks.Kind) -> list[_Atom]:
    atoms: list[_Atom] = []
    path: list[tuple[int, str]] = []
    headings: Headings = ()
    before = markdown_blocks.Block(0, 0)
    for block in markdown_blocks.blocks(text, kind):
        if block.level:
            path = [step for step in path if step[0] < block.level]
            path.append((block.level, block.title))
            headings = tuple(title for _, title in path)
        if block.start - before.end > _GAP_CHARS:
            strength = _GAP
        elif before.level:
            strength = _GLUE
        elif block.level:
            strength = _HEADING - block.level
        elif block.item or text[before.start : before.end][-8:].rstrip().endswith(":"):
            strength = _ATTACHED
        else:
            strength = _PARAGRAPH
        atoms.append(
            _Atom(block.start, block.end, strength, headings, -1, block.rows, block.level > 0)
        )
        before = block
    # The white space behind an atom is counted with it, so that the counts of atoms add up.
    for atom, behind in pairwise(atoms):
        atom.end = min(behind.start, atom.end + _GAP_CHARS)
    return atoms


def _measure(text: str, atoms: list[_Atom], tokens_max: int, count_many: CountMany) -> None:
    chars_max = tokens_max * _CHARS_PER_TOKEN_MAX
    new = [atom for atom in atoms if atom.tokens < 0]
    small = [atom for atom in new if atom.end - atom.start <= chars_max]
    for atom in new:
        atom.tokens = tokens_max + 1
    counts = count_many([text[atom.start : atom.end] for atom in small])
    for atom, tokens in zip(small, counts, strict=True):
        atom.tokens = tokens
    # What is over only by the white space behind it fits, alone.
    close = [atom for atom in small if tokens_max < atom.tokens <= tokens_max + _BLANK_TOKENS]
    counts = count_many([text[atom.start : atom.end].strip() for atom in close])
    for atom, tokens in zip(close, counts, strict=True):
        atom.tokens = tokens_max if tokens <= tokens_max else atom.tokens


def _soft_parts(text: str, atom: _Atom, _: int) -> Iterable[_Atom]:
    return _parts(atom, cut_points.soft_cuts(text, atom.start, atom.end, rows=atom.rows))


def _hard_parts(text: str, atom: _Atom, tokens_max: int) -> Iterable[_Atom]:
    return _parts(atom, cut_points.hard_cuts(text, atom.start, atom.end, tokens_max))


def _raw_parts(_: str, atom: _Atom, tokens_max: int) -> Iterable[_Atom]:
    return _parts(atom, cut_points.raw_cuts(atom.start, atom.end, tokens_max))


def _parts(atom: _Atom, cuts: list[cut_points.Cut]) -> Iterable[_Atom]:
    starts = [(atom.start, atom.strength), *cuts]
    ends = [*(offset for offset, _ in cuts), atom.end]
    for (start, strength), end in zip(starts, ends, strict=True):
        yield _Atom(start, end, strength, atom.headings, -1, atom.rows, atom.is_heading)


# ---- boundaries


def _rank(text: str, atom: _Atom) -> int:
    """Strength first, then chance drawn from the words behind the boundary alone."""
    near = text[atom.start : min(atom.end, atom.start + _HASHED_CHARS)].strip()
    return atom.strength << 32 | zlib.crc32(near.encode())


def _merged(tokens: list[int], ranks: list[int], tokens_max: int) -> list[int]:
    """Let boundaries fall from the weakest up; return the atoms that open a chunk."""
    totals = tokens.copy()
    first = list(range(len(tokens)))  # of the piece that ends with this atom
    last = first.copy()  # of the piece that begins with this atom
    standing = [True] * len(tokens)
    for right in sorted(range(1, len(tokens)), key=ranks.__getitem__):
        left = first[right - 1]
        total = totals[left] + totals[right]
        if total <= tokens_max and ranks[right] < _GAP << 32:
            totals[left] = total
            end = last[right]
            last[left] = end
            first[end] = left
            standing[right] = False
    return [index for index, stands in enumerate(standing) if stands]


def _divided(tokens: list[int], ranks: list[int], firsts: list[int], tokens_max: int) -> list[int]:
    """Divide a chunk between its neighbours where both have room, each chunk touched once."""
    before = [0, *accumulate(tokens)]
    bounds = [*firsts, len(tokens)]
    touched = [False] * len(firsts)
    for middle in sorted(range(1, len(firsts) - 1), key=lambda index: ranks[firsts[index]]):
        if any(touched[middle - 1 : middle + 2]):
            continue
        left, start, end, right = bounds[middle - 1 : middle + 3]
        weaker = min(ranks[start], ranks[end]) >> 32
        if max(ranks[start], ranks[end]) >= _GAP << 32:
            continue
        low = max(start + 1, bisect_left(before, before[right] - tokens_max))
        high = min(end, bisect_right(before, before[left] + tokens_max))
        place = max(range(low, high), key=ranks.__getitem__, default=-1)
        if place >= 0 and ranks[place] >> 32 >= weaker:
            touched[middle - 1 : middle + 2] = [True] * 3
            bounds[middle], bounds[middle + 1] = place, place
    return sorted(set(bounds[:-1]))


# ---- seal

_Sealed = tuple[int, int, str, int, Headings]


def _sealed(
    text: str, groups: list[list[_Atom]], tokens_max: int, count_many: CountMany
) -> list[_Sealed]:
    """Count what will be stored; a sum of parts can be a few tokens short of the whole."""
    done: list[_Sealed] = []
    while groups:
        spans = [cut_points.tight(text, group[0].start, group[-1].end) for group in groups]
        contents = [text[start:end] for start, end in spans]
        over: list[list[_Atom]] = []
        for group, span, content, tokens in zip(
            groups, spans, contents, count_many(contents), strict=True
        ):
            if tokens > tokens_max:
                over.extend(_halves(text, group, tokens_max))
            elif content:
                done.append((*span, content, tokens, _headings(group)))
        groups = over
    return sorted(done)


def _halves(text: str, group: list[_Atom], tokens_max: int) -> tuple[list[_Atom], list[_Atom]]:
    if len(group) == 1:
        group = list(_hard_parts(text, group[0], tokens_max))
    if len(group) == 1:
        group = list(_raw_parts(text, group[0], tokens_max))
    at = max(range(1, len(group)), key=lambda index: _rank(text, group[index]))
    return group[:at], group[at:]


def _headings(group: list[_Atom]) -> Headings:
    return next((atom.headings for atom in group if not atom.is_heading), group[-1].headings)
