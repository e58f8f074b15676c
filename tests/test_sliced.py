"""Work and yardstick in turns; in a file of its own, for each process imports it anew."""

import itertools
import time

from tests.performance import sliced


def working(tell, count, seconds):
    tell("ready")
    for number in range(100):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        count.value += 1
        tell(number)


def test_two_processes_take_turns_and_each_does_nothing_in_the_other_s():
    """Twice the work is as long as two steps; of one that is stopped the count stays."""
    with sliced.Halted(working, 0.2) as work, sliced.Halted(working, 0.02) as yardstick:
        first, second = itertools.islice(sliced.pieces(work, yardstick, 0.05), 2)
        stays = yardstick._count.value
        work.turn(0.1)
        assert yardstick._count.value == stays
    assert (first.told, second.told) == (0, 1)
    assert first.steps + second.steps <= stays
    length = first.seconds * 7 / 2.5
    assert sliced.Piece(None, first.seconds, 7, 2.5).length == length
    assert first.seconds >= 0.2
