"""What a fault did to the answers, and whether that is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trials.faults import Fault
from trials.load import BROKEN, Reply, percentile, statuses

#: What the service may say on purpose: the answer, too many, not now, not in time.
DELIBERATE = frozenset({200, 429, 503, 504})
#: Seconds in which everything is normal again.
RECOVERY_SECONDS = 5.0
#: Seconds past the deadline that the slowest hundredth may take.
GRACE_SECONDS = 0.1
#: Seconds in which a breaker opens, and the connections of a dead worker end.
ONSET_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Times:
    """When a fault began, when its end began, and when the broken part answered again, by the load's clock."""

    began: float
    ending: float
    ended: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table; ``problems`` is empty where all is as it must be."""

    fault: str
    requests: int
    statuses: dict[str, int]
    degraded: dict[str, int]
    p50_ms: float
    p99_ms: float
    recovered_s: float
    acknowledged: int
    lost: int
    stale: int
    tracebacks: int
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        """As a row of the results file."""
        return asdict(self) | {"passed": not self.problems}


def judge(
    fault: Fault,
    replies: Sequence[Reply],
    times: Times,
    budget: float | None,
    *,
    acknowledged: int,
    lost: int,
    stale: Sequence[str],
    tracebacks: int,
) -> Verdict:
    """Judge one fault.

    Args:
        replies: all of the load, from before the fault until some seconds after it.
        budget: seconds that an answer may take; None where the machine is too busy to judge by the clock.
        acknowledged: events that the service promised to keep, and ``lost``, how many of them it did not.
        stale: a sentence for each answer that knew less than had been promised.
        tracebacks: new ones in the service's log.
    """
    during = [reply for reply in replies if times.began <= reply.asked_at < times.ended]
    answered = [reply.seconds for reply in during if reply.status > 0]
    p99 = percentile(answered, 0.99)
    late = [reply.asked_at + reply.seconds for reply in replies if reply.asked_at >= times.ended and not reply.fine]
    recovered = max((at - times.ended for at in late), default=0.0)
    problems = [*_improper(fault, replies, times), *_unnamed(fault, during, times), *stale[:3]]
    if budget is not None and p99 > budget + GRACE_SECONDS:
        problems.append(f"p99 is {p99 * 1000:.0f} ms")
    if budget is not None and recovered > RECOVERY_SECONDS:
        problems.append(f"normal only after {recovered:.1f} s")
    if lost:
        problems.append(f"{lost} acknowledged events are lost")
    if tracebacks:
        problems.append(f"{tracebacks} tracebacks in the log")
    return Verdict(
        fault=fault.name,
        requests=len(replies),
        statuses=statuses(replies),
        degraded=dict(Counter(part for reply in replies for part in reply.degraded)),
        p50_ms=round(1000 * percentile(answered, 0.5), 1),
        p99_ms=round(1000 * p99, 1),
        recovered_s=round(recovered, 2),
        acknowledged=acknowledged,
        lost=lost,
        stale=len(stale),
        tracebacks=tracebacks,
        problems=problems,
    )


def _improper(fault: Fault, replies: Sequence[Reply], times: Times) -> list[str]:
    """Answers that nobody decided to give."""

    def excused(reply: Reply) -> bool:
        return reply.status == BROKEN and fault.breaks and reply.asked_at < times.began + ONSET_SECONDS

    wrong = [reply for reply in replies if reply.status not in DELIBERATE and not excused(reply)]
    return [f"answers that nobody meant: {statuses(wrong)}"] if wrong else []


def _unnamed(fault: Fault, during: Sequence[Reply], times: Times) -> list[str]:
    """Answers that do without a part and do not say so. One from the cache needs no history; an event needs no cache
    to be stored, but to be seen."""
    settled = [
        reply
        for reply in during
        if reply.status == 200
        and times.began + ONSET_SECONDS < reply.asked_at < reply.asked_at + reply.seconds < times.ending
    ]
    problems = []
    for part in sorted(fault.lost):
        must = [reply for reply in settled if part == "cache" or reply.state not in ("cached", "")]
        silent = sum(part not in reply.degraded for reply in must)
        if silent:
            problems.append(f"{silent} of {len(must)} answers do not name the lost {part}")
    return problems
