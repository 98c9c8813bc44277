"""The cells of one event type in one hour: minutes, and blocks of minutes that are too old to be told apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from weir.consumers.metrics.states import Cell, merged, scalars, with_users

HOUR = 60
#: Minutes are merged ten by ten: blocks start at multiples of it.
TEN = 10


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A minute's cell without its sketches."""

    minute: int
    count: int
    parts: tuple[float, ...]
    least: float
    greatest: float

    def cell(self, quantiles: bytes = b"", users: bytes = b"") -> Cell:
        """The minute's cell, with these sketches."""
        return Cell(self.count, self.parts, self.least, self.greatest, quantiles, users)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Row]).decode


def _row(minute: int, cell: Cell) -> Row:
    return Row(minute, cell.count, cell.parts, cell.least, cell.greatest)


class Block(msgspec.Struct, frozen=True, gc=False):
    """Minutes `start` to before `end`, whose sketches are one. `rows` are theirs, packed: a third of the room."""

    start: int
    end: int
    cell: Cell
    rows: bytes


class Hour:
    """The minutes `start` to before `start` + 60, of which there is something. A minute is its number since 1970."""

    __slots__ = ("_final", "_minutes", "_tens", "blocks", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.blocks: list[Block] = []
        self._minutes: dict[int, Cell] = {}
        self._final: dict[int, int | None] = {}
        self._tens: dict[int, Cell] = {}  # merged from minutes that are there still, when they are asked for

    def revise(self, minute: int, cell: Cell, final_since: int | None) -> bool:
        """The cell is the minute's from now on. None: it is not final, else since when (epoch ms).

        False where the minute is in a block already: of what is new there only the quantiles are left out.
        """
        for at, block in enumerate(self.blocks):
            if block.start <= minute < block.end:
                self.blocks[at], whole = _revised(block, minute, cell)
                return whole
        self._minutes[minute] = cell
        self._final[minute] = final_since
        self._tens.pop(minute - minute % TEN, None)
        return True

    def open(self, minute: int) -> bool:
        """Whether the minute is there, and not final."""
        return self._final.get(minute, 0) is None

    def fold(self, before: int, settled: int, in_any_case: int) -> None:
        """Makes blocks of ten minutes of those before minute `before` that were final by `settled` (epoch ms), and of
        those before minute `in_any_case`."""
        for start in sorted({minute - minute % TEN for minute in self._minutes}):
            end = start + TEN
            own = [minute for minute in range(start, end) if minute in self._minutes]
            final = [self._final[minute] for minute in own]
            if end > in_any_case and (end > before or any(since is None or since > settled for since in final)):
                continue
            rows = [_row(minute, self._minutes[minute]) for minute in own]
            cell = merged([self._minutes[minute] for minute in own], small=True)
            self.blocks.append(Block(start, end, cell, _pack(rows)))
            for minute in own:
                del self._minutes[minute], self._final[minute]
            self._tens.pop(start, None)

    def fold_whole(self) -> None:
        """Makes one block of all that there is, whatever is final."""
        self.fold(0, 0, self.start + HOUR)
        if len(self.blocks) > 1:
            blocks = sorted(self.blocks, key=lambda block: block.start)
            rows = [row for block in blocks for row in _unpack(block.rows)]
            cell = merged([block.cell for block in blocks], small=True)
            self.blocks = [Block(self.start, self.start + HOUR, cell, _pack(rows))]

    def prepare(self, before: int) -> None:
        """Merges ten minutes by ten, as far as they are before minute `before`."""
        for start in {minute - minute % TEN for minute in self._minutes}:
            if start + TEN <= before:
                self._ten(start)

    def cells(self, first: int, end: int, share: float = 0.5) -> Iterator[Cell]:
        """Cells that together are the minutes `first` to before `end`.

        Of a block that is not all in there the sketches are given where at least that share of its events is.
        """
        for block in self.blocks:
            if first <= block.start and block.end <= end:
                yield block.cell
            elif first < block.end and block.start < end:
                yield from _part(block, first, end, share)
        if not self._minutes:
            return
        minute, end = max(first, self.start), min(end, self.start + HOUR)
        while minute < end:
            if minute % TEN == 0 and minute + TEN <= end:
                if (cell := self._ten(minute)) is not None:
                    yield cell
                minute += TEN
            else:
                if minute in self._minutes:
                    yield self._minutes[minute]
                minute += 1

    def block_at(self, minute: int) -> Block | None:
        """The block that the minute is in."""
        return next((block for block in self.blocks if block.start <= minute < block.end), None)

    def size(self) -> int:
        """The bytes of all sketches, and of what is packed."""
        cells = (*self._minutes.values(), *self._tens.values(), *(block.cell for block in self.blocks))
        return sum(len(c.quantiles) + len(c.users) for c in cells) + sum(len(block.rows) for block in self.blocks)

    def _ten(self, start: int) -> Cell | None:
        cell = self._tens.get(start)
        if cell is None:
            own = [self._minutes[minute] for minute in range(start, start + TEN) if minute in self._minutes]
            if not own:
                return None
            cell = merged(own)
            if len(own) > 1:
                self._tens[start] = cell
        return cell


def _part(block: Block, first: int, end: int, share: float) -> Iterator[Cell]:
    rows = [row for row in _unpack(block.rows) if first <= row.minute < end]
    if rows:
        inside = sum(row.count for row in rows) >= share * block.cell.count
        sketches = (block.cell.quantiles, block.cell.users) if inside else (b"", b"")
        yield rows[0].cell(*sketches)
        yield from (row.cell() for row in rows[1:])


def _revised(block: Block, minute: int, cell: Cell) -> tuple[Block, bool]:
    """The block with that minute's cell; and whether its quantiles have all that is in the cell."""
    rows = {row.minute: row for row in _unpack(block.rows)}
    before = rows.get(minute)
    rows[minute] = _row(minute, cell)
    whole = merged([block.cell, cell], small=True) if before is None else with_users(block.cell, cell)
    total = scalars([row.cell() for row in rows.values()], whole.quantiles, whole.users)
    packed = _pack([rows[minute] for minute in sorted(rows)])
    return Block(block.start, block.end, total, packed), before is None or before.count == cell.count
