"""The window: what a queue may have in Redis follows what its workers take."""

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.ledger.relay import WINDOW_MIN, Window
from tests.support.thoroughness import examples


@given(
    most=st.integers(1, 1_000),
    taken=st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)), max_size=60),
)
@settings(max_examples=examples(150))
def test_a_window_never_holds_more_than_its_maximum(most, taken):
    window, length = Window(most), 0

    for due, consumed in taken:
        room = window.room(length)
        length += min(room, due)
        window.filled(full=due >= room)
        assert room >= 0
        assert length <= most
        length -= min(length, consumed)


def test_a_window_that_is_emptied_grows_to_its_maximum():
    window = Window(1_000)
    rooms = []

    for _ in range(8):
        rooms.append(window.room(0))
        window.filled(full=True)

    assert WINDOW_MIN == 64
    assert rooms == [64, 128, 256, 512, 1_000, 1_000, 1_000, 1_000]


def test_a_window_that_hardly_moves_shrinks_again():
    window = Window(1_000)
    for _ in range(6):
        window.room(0)
        window.filled(full=True)

    window.filled(full=False)
    for _ in range(200):
        window.room(900)

    assert window.room(0) == WINDOW_MIN
