"""When the frames of a video are shown, in one clock that only goes on, and which of them are missing."""

from collections import Counter

# A rate is constant where nearly all frames come in nearly equal steps; milliseconds round a 60th of a second by 3%.
REGULAR, REGULAR_SHARE = 0.1, 0.8
# Times that go back by less are damaged, or in another order: H.264 and HEVC hold back 16 pictures at most.
RESTART_STEPS = 16
# Formats that are cut and joined anywhere have clocks that jump; ffmpeg's own bound (-dts_delta_threshold).
JUMP_S = 10.0


class Times:
    """Times of a video's frames in units of its time base, each later than the one before.

    What was joined (`cat a.ts b.ts`) has a clock that starts anew: the second part comes a step behind the first. A
    single time that is damaged does not move those behind it.
    """

    def __init__(self, step: int, jump: int | None = None) -> None:
        """Nothing was shown yet.

        Args:
            step: from one frame to the next where nothing says when it comes, 1 or more.
            jump: a gap of more units is none: the clock was set anew. None: there is no such gap.
        """
        self.last: int | None = None
        self._step, self._jump = step, jump
        self._shift = self._shift_before = 0
        self._part_begins = 0
        self._intervals: Counter[int] = Counter()

    def shown(self, pts: int | None) -> int:
        """When the next frame is shown, of which the file says `pts`: None in raw streams, which have no times."""
        if self.last is None:
            self.last = self._part_begins = int(pts or 0)
            return self.last
        before, self.last = self.last, self._next(self.last, pts)
        self._intervals[self.last - before] += 1
        return self.last

    @property
    def end(self) -> int:
        """Until when the last frame is shown, about; 0 before the first."""
        return 0 if self.last is None else self.last + self._step

    @property
    def missing(self) -> int:
        """Frames that the times leave room for, so far; 0 where the rate varies by design."""
        if not self._intervals:
            return 0
        usual = self._intervals.most_common(1)[0][0]
        regular = sum(count for interval, count in self._intervals.items() if abs(interval - usual) <= REGULAR * usual)
        if regular < REGULAR_SHARE * self._intervals.total():
            return 0
        steps = {interval: round(interval / usual) for interval in self._intervals}
        return sum((steps[interval] - 1) * count for interval, count in self._intervals.items() if steps[interval] > 1)

    def _next(self, before: int, pts: int | None) -> int:
        if pts is None:
            return before + self._step
        # Of the clock as it is and as it was before its last start, the one in which this frame comes sooner.
        later = [(pts + shift, shift) for shift in (self._shift, self._shift_before) if pts + shift > before]
        if later and (self._jump is None or min(later)[0] - before <= self._jump):
            at, shift = min(later)
            if shift != self._shift:
                self._shift, self._shift_before = shift, self._shift
            return at
        if not later and not self._starts_anew(before, pts):
            return before + 1
        self._shift, self._shift_before = before + self._step - pts, self._shift
        self._part_begins = pts
        return before + self._step

    def _starts_anew(self, before: int, pts: int) -> bool:
        return pts <= self._part_begins or before - (pts + self._shift) > RESTART_STEPS * self._step
