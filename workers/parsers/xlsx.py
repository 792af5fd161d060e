"""Excel: one table a sheet, with the values a reader sees, never formulas."""

import io
import warnings
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal

from workers.parsers.archive import Archive
from workers.parsers.markdown import Markdown
from workers.parsers.model import KindName, Parsed, ParserLimits
from workers.parsers.package import package_title


def parse_xlsx(data: bytes, archive: Archive, limits: ParserLimits) -> Parsed:
    """An xlsx as Markdown: a heading and a pipe table for each sheet that has text.

    Args:
        data: The file itself; openpyxl opens it again after the guard has read all of it.
        archive: The same file behind the guard.
        limits: How much text may come out.

    Raises:
        DocumentRefused: `corrupt_xlsx`, `output_limit`.
    """
    # openpyxl would load both, for arrays and pictures: 0.2 CPU seconds for nothing.
    from workers.parsers.lean_imports import without_numpy_and_pillow  # noqa: PLC0415

    with without_numpy_and_pillow():
        from openpyxl import load_workbook  # type: ignore[import-untyped]  # noqa: PLC0415

    out = Markdown(limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        for sheet in book.worksheets:
            # A sheet may claim to be a million rows; without the claim only real rows count.
            sheet.reset_dimensions()
            rows = _rows(sheet.iter_rows(values_only=True))
            first = next(rows, None)
            if first is not None:
                out.heading(2, sheet.title)
                out.table(_chain(first, rows))
        book.close()
    return Parsed(out.text(), KindName("xlsx"), "markdown", title=package_title(archive))


def _rows(values: Iterator[tuple[object, ...]]) -> Iterator[list[str]]:
    for row in values:
        last = next((i for i in range(len(row), 0, -1) if row[i - 1] is not None), 0)
        if last:
            yield [_cell(value) for value in row[:last]]


def _chain(first: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        midnight = value.time() == time(0)
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return (
            format(Decimal(repr(value)), "f").rstrip("0").rstrip(".")
            if value % 1
            else f"{value:.0f}"
        )
    return str(value)
