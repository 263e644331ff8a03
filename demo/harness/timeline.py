"""`timeline.svg`: the run as one picture.

From top to bottom: events stored by each language, the phase of each breaker, connections in use of each
pool, and calls refused. The span of the lock is shaded through all of them; the other faults are upright
lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.checks import Evidence
from harness.outcome import SECOND
from harness.report import Run
from harness.svg import INK, curve, document, rect, text, upright
from harness.worker import Worker

WIDTH, HEIGHT, LEFT, RIGHT = 1120, 690, 118, 24
COLOUR = {"elixir": "#6d3fa0", "c": "#1f6fb4", "python": "#c07a00"}
NAME = {"elixir": "Elixir", "c": "C", "python": "Python"}
PHASE = {"closed": "#8fd19e", "open": "#e06666", "half_open": "#f6c453"}
FAULT = {
    "burst": "25 updates at once",
    "connection_killed": "connection killed",
    "client_killed": "client killed",
    "config_server_killed": "ConfigServer killed",
    "event_store_killed": "EventStore killed",
}
# Every curve is a sequence of (instant, value) for a language.
Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Scale:
    """Horizontal place of an instant."""

    began_ns: int
    ended_ns: int

    def x(self, instant_ns: int) -> float:
        """Instants outside of the run lie on its edge."""
        share = (instant_ns - self.began_ns) / (self.ended_ns - self.began_ns)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


@dataclass(frozen=True)
class Panel:
    """A framed part of the picture."""

    title: str
    top: float
    height: float

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    def frame(self) -> list[str]:
        """The frame and the title above it."""
        return [
            text(LEFT, self.top - 6, self.title, size=13),
            rect(LEFT, self.top, WIDTH - LEFT - RIGHT, self.height, fill="none", more='stroke="#d9d9d9"'),
        ]

    def plot(self, scale: Scale, curves: Curves, top_label: str = "") -> list[str]:
        """Curves from 0 to their common greatest value, which is named unless a label is given."""
        most = max((value for points in curves.values() for _, value in points), default=0) or 1
        return [
            *self.frame(),
            *(
                curve(
                    [(scale.x(at), self.bottom - self.height * value / most) for at, value in points],
                    stroke=COLOUR[language],
                )
                for language, points in curves.items()
            ),
            text(LEFT - 8, self.top + 12, top_label or f"{most:.0f}", anchor="end"),
            text(LEFT - 8, self.bottom, "0", anchor="end"),
        ]


STORED = Panel("events stored, share of each language", 116, 150)
BREAKER = Panel("breaker", 300, 84)
IN_USE = Panel("connections in use", 418, 90)
REFUSED = Panel("calls refused by limiter or breaker, per sample", 542, 90)


def stored(workers: Sequence[Worker]) -> Curves:
    """Stored events as a share of what the language has to store."""
    return {w.language: [(int(s["at"]), s["done"] / w.share) for s in w.samples] for w in workers}


def in_use(workers: Sequence[Worker]) -> Curves:
    """Connections that somebody holds."""
    return {w.language: [(int(s["at"]), s["in_use"]) for s in w.samples] for w in workers}


def refused(workers: Sequence[Worker]) -> Curves:
    """Calls refused since the sample before."""
    curves: Curves = {}
    for worker in workers:
        totals = [(int(s["at"]), int(s["limited"]) + int(s["rejected"])) for s in worker.samples]
        curves[worker.language] = [(at, total - before) for (_, before), (at, total) in pairwise(totals)]
    return curves


def phases(worker: Worker, scale: Scale, top: float, height: float) -> list[str]:
    """A band that changes colour where the breaker changed phase."""
    drawn = []
    phase, since = "closed", scale.began_ns
    ordered = sorted(worker.transitions, key=lambda transition: int(transition["sequence"]))
    for to, at in [*((t["to"], int(t["at"])) for t in ordered), ("", scale.ended_ns)]:
        drawn.append(rect(scale.x(since), top, scale.x(at) - scale.x(since), height, fill=PHASE[phase]))
        phase, since = to, at
    return drawn


def breakers(workers: Sequence[Worker], scale: Scale) -> list[str]:
    """A band for each language."""
    drawn = BREAKER.frame()
    for index, worker in enumerate(workers):
        top = BREAKER.top + 4 + 26 * index
        drawn += [
            *phases(worker, scale, top, 22),
            text(LEFT - 8, top + 16, NAME[worker.language], anchor="end"),
        ]
    return drawn


def axis(scale: Scale, top: float, bottom: float) -> list[str]:
    """A faint upright line and a number every second one."""
    drawn = []
    for second in range(0, (scale.ended_ns - scale.began_ns) // SECOND + 1, 2):
        x = scale.x(scale.began_ns + second * SECOND)
        drawn += [
            upright(x, top, bottom, stroke="#eeeeee"),
            text(x, bottom + 18, f"{second} s", anchor="middle"),
        ]
    return drawn


def faults(seen: Evidence, scale: Scale, top: float, bottom: float) -> list[str]:
    """The lock as a shade, the others as lines."""
    drawn = []
    if seen.lock.locked_ns and seen.lock.released_ns:
        left, right = scale.x(seen.lock.locked_ns), scale.x(seen.lock.released_ns)
        drawn += [
            rect(left, top, right - left, bottom - top, fill="#000", more='opacity="0.07"'),
            text((left + right) / 2, top - 6, f"locked by sqlite3, pid {seen.lock.pid}", anchor="middle"),
        ]
    shown = [fault for fault in seen.faults if fault["kind"] in FAULT]
    for number, fault in enumerate(shown):
        x = scale.x(fault["at"])
        drawn += [
            upright(x, top, bottom, stroke=INK, more='stroke-dasharray="3 3"'),
            # Neighbours are not on one line.
            text(x, top - (6 if number % 2 == 0 else 19), FAULT[fault["kind"]], anchor="middle"),
        ]
    return drawn


def legend(y: float) -> list[str]:
    """What the colours mean."""
    drawn = []
    x: float = LEFT
    colours = [(NAME[language], COLOUR[language]) for language in NAME]
    colours += [(f"breaker {phase.replace('_', '-')}", colour) for phase, colour in PHASE.items()]
    for words, colour in colours:
        drawn += [rect(x, y - 10, 12, 12, fill=colour), text(x + 18, y, words)]
        x += 44 + 6.5 * len(words)
    return drawn


def draw(run: Run, workers: Sequence[Worker], seen: Evidence) -> str:
    """The whole picture."""
    scale = Scale(run.began_ns, run.ended_ns)
    top, bottom = 94.0, REFUSED.bottom + 8
    title = f"{run.events:,} events from {run.source}, stored once each through breaker, limiter and pool"
    return document(
        WIDTH,
        HEIGHT,
        [
            text(LEFT, 28, title, size=16),
            *legend(56),
            *axis(scale, top, bottom),
            *STORED.plot(scale, stored(workers), "100 %"),
            *breakers(workers, scale),
            *IN_USE.plot(scale, in_use(workers)),
            *REFUSED.plot(scale, refused(workers)),
            *faults(seen, scale, top, bottom),
        ],
    )
