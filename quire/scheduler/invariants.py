"""What must hold of sequences between any two calls.

Not here: invariants of rows (rows.py), of blocks and contents (kvcache/).
Door: check_places, check_tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from quire.scheduler.sequence import Family, Sequence


def check_places(
    families: Iterable[Family], waiting: Iterable[Sequence], running: Iterable[Sequence]
) -> list[Sequence]:
    """All unfinished sequences.

    Raises: AssertionError unless each of them stands in exactly one place and nobody else in any.
    """
    families = list(families)
    unfinished = [sequence for family in families for sequence in family.sequences]
    held_back = [sequence for family in families for sequence in family.held_back]
    places = [*running, *waiting, *held_back]
    assert len(places) == len(set(places)), "a sequence stands in two places"
    assert set(places) == set(unfinished), "an unfinished sequence stands nowhere, or a finished one somewhere"
    for group in (running, waiting):
        orders = [sequence.order for sequence in group]
        assert orders == sorted(orders), "sequences are not in the policy's order"
    for sequence in running:
        assert sequence.row is not None, "a running sequence has no row"
    for sequence in (*waiting, *held_back):
        assert sequence.row is None and not sequence.tables.length, "a waiting sequence has a row or blocks"
    return unfinished


def check_tokens(sequence: Sequence, max_known: int, num_in_flight: int) -> None:
    """Raises AssertionError unless the counts of an unfinished sequence's tokens fit together."""
    assert not sequence.is_done and sequence.num_known < max_known, "a finished sequence goes on"
    assert len(sequence.generated) < sequence.request.stopping.max_tokens, "a sequence has all its tokens and goes on"
    assert sequence.num_known == len(sequence.request.prompt_ids) + len(sequence.generated), (
        "known tokens are miscounted"
    )
    assert 0 <= sequence.num_computed <= sequence.num_planned <= sequence.num_known, (
        "computed <= planned <= known fails"
    )
    assert sequence.num_in_flight <= num_in_flight, "more steps are in flight with a sequence than there are"
    if sequence.row is None:
        assert sequence.num_planned == 0 and not sequence.num_in_flight, "a waiting sequence has something computed"
