"""Stop strings in a growing text, in linear time, whatever the pieces it comes in.

The rule: the text ends where a stop string is complete for the first time; of several complete at the same character,
the longest counts (so most is cut). It does not depend on how the text was cut into pieces. Example: with the stops
``ab`` and ``xabc``, the text ``xabc`` ends after ``xab``.

Only the longest end of the text that may still become a stop string is held back.

Not here: which tokens a stop keeps (stream.py), stop token ids (the engine's).
Door: Stopper.
"""

from __future__ import annotations

from collections.abc import Sequence


class Stopper:
    """Searches one text for stop strings.

    ``includes_stop``: the visible text ends after the stop string instead of before it; then nothing is held back.
    """

    __slots__ = ("_held", "_includes_stop", "_matchers")

    def __init__(self, stops: Sequence[str], includes_stop: bool = False) -> None:
        # Longest first: of equal ends, the first found is kept.
        self._matchers = [_Matcher(stop) for stop in sorted(set(stops), key=len, reverse=True)]
        self._includes_stop = includes_stop
        self._held = ""

    def push(self, text: str, *, may_stop: bool = True) -> tuple[str, str | None]:
        """The text that became visible, and the stop string that ended it, if one did; then nothing more may be
        pushed.

        ``may_stop`` False: a stop string that is complete within this piece does not count (one that is complete
        later does, wherever it began).
        """
        if not self._matchers or not text:
            return text, None
        end, stop = len(text) + 1, None
        for matcher in self._matchers:
            found = matcher.advance(text, may_stop)
            if 0 < found < end:
                end, stop = found, matcher.stop
        whole = self._held + text
        if stop is not None:
            end += len(self._held)
            self._held = ""
            return whole[: end if self._includes_stop else end - len(stop)], stop
        num_held = 0 if self._includes_stop else max(matcher.matched for matcher in self._matchers)
        visible = len(whole) - num_held
        self._held = whole[visible:]
        return whole[:visible], None

    def finish(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held


class _Matcher:
    """One stop string; ``matched`` characters of it end the text so far. The table of failures is that of Knuth,
    Morris and Pratt.
    """

    __slots__ = ("_failures", "matched", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._failures = _failures(stop)

    def advance(self, text: str, may_stop: bool) -> int:
        """Where in the text (1 is after its first character) the stop string is complete first; 0 if it is not."""
        stop, failures, matched = self.stop, self._failures, self.matched
        at = 0
        while at < len(text):
            if matched == 0:
                at = text.find(stop[0], at)
                if at < 0:
                    break
            char = text[at]
            while matched and stop[matched] != char:
                matched = failures[matched]
            matched += stop[matched] == char
            at += 1
            if matched == len(stop):
                if may_stop:
                    self.matched = matched
                    return at
                matched = failures[matched]
        self.matched = matched
        return 0


def _failures(stop: str) -> list[int]:
    """For each number of matched characters, the next smaller number that may still be matched."""
    failures = [0] * (len(stop) + 1)
    matched = 0
    for at in range(1, len(stop)):
        while matched and stop[matched] != stop[at]:
            matched = failures[matched]
        matched += stop[matched] == stop[at]
        failures[at + 1] = matched
    return failures
