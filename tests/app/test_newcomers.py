"""Newcomers: whoever is on offer sits somewhere, nobody sits with another, and no seat changes hands at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.columns import ItemContent
from app.newcomers import Newcomers
from app.seats import Holder, Seating
from models.contract import UNKNOWN

SEATS = range(10, 13)
looks = st.lists(
    st.tuples(
        st.booleans(),  # whether the catalogue is read as a whole
        st.dictionaries(st.sampled_from("abcde"), st.tuples(st.booleans(), st.sampled_from([1.0, 2.0]))),
    ),
    max_size=12,
)


class Room:
    """The model's rows, and how many were told to wait."""

    def __init__(self) -> None:
        self.rows: dict[int, ItemContent] = {}
        self.waiting = 0
        self.newcomers = Newcomers(len(SEATS), Holder(Seating(SEATS[0], len(SEATS), self.seat)), self.wait)

    async def seat(self, seats: Sequence[int], contents: Sequence[ItemContent]) -> None:
        self.rows.update(zip(seats, contents, strict=True))

    def wait(self, count: int) -> None:
        self.waiting = count

    def look(self, *, whole: bool = False, **found: ItemContent) -> dict[int, ItemContent | None]:
        return asyncio.run(self.newcomers.look(found, whole=whole))


def test_a_newcomer_sits_where_it_came_and_its_row_follows_its_content() -> None:
    room, cheap, dear = Room(), ItemContent(price=1.0), ItemContent(price=2.0)
    assert room.look(a=cheap, b=cheap) == {10: cheap, 11: cheap}
    assert room.look(a=cheap) == {}
    assert room.look(b=dear) == {11: dear}
    assert (room.rows, room.newcomers.at(11)) == ({10: cheap, 11: dear}, ("b", dear))
    assert [room.newcomers.item_id(name) for name in "abc"] == [10, 11, UNKNOWN]


def test_a_seat_that_was_given_up_is_taken_again_after_a_whole_look() -> None:
    room, there, gone = Room(), ItemContent(), ItemContent(available=False)
    room.look(a=there, b=there, c=there)
    assert room.look(b=gone, d=there) == {11: None}
    assert (room.newcomers.at(11), room.newcomers.item_id("b"), room.waiting) == (("b", there), UNKNOWN, 1)
    assert room.look(whole=True, a=there, c=there, d=there) == {10: there, 12: there, 11: there}
    assert (room.newcomers.at(11), room.waiting) == (("d", there), 0)


@given(looks)
def test_whatever_comes_and_goes_nobody_is_taken_for_another(
    looks: list[tuple[bool, dict[str, tuple[bool, float]]]],
) -> None:
    room = Room()
    shown: dict[int, ItemContent | None] = {}  # what the catalogue shows of each seat
    there: dict[str, ItemContent] = {}
    for whole, found in looks:
        contents = {name: ItemContent(price=price, available=there) for name, (there, price) in found.items()}
        before = {room.newcomers.item_id(name): name for name in "abcde"}
        changes = room.look(whole=whole, **contents)
        shown, there = (changes, contents) if whole else (shown | changes, there | contents)
        on_offer = {name for name, content in there.items() if content.available}
        seated = {name: seat for name in "abcde" if (seat := room.newcomers.item_id(name)) != UNKNOWN}
        assert len(set(seated.values())) == len(seated)
        assert set(seated) <= on_offer
        assert room.waiting == len(on_offer - set(seated))
        assert {seat for seat, content in shown.items() if content is not None} == set(seated.values())
        for name, seat in seated.items():
            assert room.rows[seat] == shown[seat] == there[name]
            assert whole or before.get(seat, name) == name
