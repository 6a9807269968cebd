"""Episodes: the stretches of a patient's readings in which a rule holds.

They follow from the readings in the order of their time and from nothing else, so late and
corrected readings end in the same episodes as if they had come in order (ADR 0020). What
was before a reading is untouched by it: judging starts at the reading that changed, in the
state that the episodes before it left.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.rule import Rule, RuleKind

_EVIDENCE = 20


class Point(NamedTuple):
    """A reading as one rule sees it: `value` in the rule's unit, `instant` in microseconds.

    Points order by their time, then by their Observation, so readings of one instant have
    one order too.
    """

    instant: int
    key: ResourceKey
    value: Decimal
    comparator: str = ""


class Episode(NamedTuple):
    """From the reading that met the rule to the one that left it, None while it goes on.

    `evidence` are the readings that met it. `newest` is the instant of the last reading
    that did.
    """

    start: int
    end: int | None
    evidence: tuple[ResourceKey, ...]
    newest: int


class Judged(NamedTuple):
    """The state after a point: the episode that goes on there or was the last to end."""

    point: Point
    episode: Episode | None
    is_new: bool


def resumed(episode: Episode | None, begin: int) -> Episode | None:
    """An episode that started before `begin` with what is known of it there."""
    if episode is None or episode.end is None or episode.end < begin:
        return episode
    return episode._replace(end=None)


def judge(
    rule: Rule, points: Sequence[Point], begin: int, before: Episode | None
) -> Iterator[Judged]:
    """The state after each of `points` from the instant `begin` on, or somewhat earlier.

    `points` are in order and reach back by the rule's cooldown and its window. `before` is
    the last episode that started before `begin`, as `resumed` gives it.
    """
    current = before
    resume = begin
    if current is not None and current.end is None:
        # It went on, or was about to be taken up again: the cooldown before says which.
        resume = max(begin - rule.cooldown, current.start + 1)
    window_start = 0
    for index, point in enumerate(points):
        while points[window_start].instant < point.instant - rule.window:
            window_start += 1
        if point.instant < resume:
            continue
        is_new = False
        seen = points[window_start : index + 1] if rule.kind is not RuleKind.LIMIT else (point,)
        if _is_met(rule, seen):
            if current is None or (
                current.end is not None and point.instant - current.end > rule.cooldown
            ):
                evidence = _evidence(rule, seen)
                current = Episode(point.instant, None, evidence, point.instant)
                is_new = True
            else:
                # Beyond again before the cooldown is over is the same episode.
                current = current._replace(end=None, newest=max(current.newest, point.instant))
        elif current is not None and current.end is None and _is_left(rule, seen):
            current = current._replace(end=point.instant)
        yield Judged(point, current, is_new)


def _is_met(rule: Rule, seen: Sequence[Point]) -> bool:
    newest = seen[-1]
    if rule.kind is RuleKind.CHANGE:
        return _change(rule, seen) >= rule.limit
    if not rule.is_beyond(newest.value, newest.comparator):
        return False
    if rule.kind is RuleKind.MEAN:
        return len(seen) >= rule.last and rule.is_beyond(_mean(seen))
    if rule.kind is RuleKind.REPEATED:
        return _times(rule, seen) >= rule.times
    return True


def _is_left(rule: Rule, seen: Sequence[Point]) -> bool:
    newest = seen[-1]
    if rule.kind is RuleKind.CHANGE:
        return _change(rule, seen) <= rule.limit - rule.margin
    if rule.kind is RuleKind.MEAN and len(seen) >= rule.last:
        return rule.is_back(_mean(seen))
    if rule.kind is RuleKind.REPEATED and _times(rule, seen) >= rule.times:
        return False
    return rule.is_back(newest.value, newest.comparator)


def _mean(seen: Sequence[Point]) -> Decimal:
    return sum((point.value for point in seen), Decimal(0)) / len(seen)


def _times(rule: Rule, seen: Sequence[Point]) -> int:
    return sum(rule.is_beyond(point.value, point.comparator) for point in seen[-rule.last :])


def _change(rule: Rule, seen: Sequence[Point]) -> Decimal:
    """How far the newest lies from the lowest (above) or highest (below) of the window."""
    values = [point.value for point in seen]
    return values[-1] - min(values) if rule.is_above else max(values) - values[-1]


def _evidence(rule: Rule, seen: Sequence[Point]) -> tuple[ResourceKey, ...]:
    """The reading that met the rule, and those before it that it takes to see why."""
    if rule.kind is RuleKind.REPEATED:
        beyond = [p for p in seen[-rule.last :] if rule.is_beyond(p.value, p.comparator)]
        return tuple(point.key for point in reversed(beyond[-_EVIDENCE:]))
    if rule.kind is RuleKind.CHANGE:
        pick = min if rule.is_above else max
        return tuple(dict.fromkeys((seen[-1].key, pick(seen, key=lambda p: p.value).key)))
    return tuple(point.key for point in reversed(seen[-_EVIDENCE:]))
