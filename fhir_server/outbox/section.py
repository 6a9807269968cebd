"""An adapter's section of the settings, read key by key; what is wrong is named."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from fhir_server.outbox.sink import DELIVERY_SECONDS

_BEGIN = "begin"


def split_begin(name: str, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], datetime | None]:
    """An adapter's own settings, and the moment before which nothing is its; None: no such.

    Raises:
        ValueError: `begin` is neither "start" nor a moment with its offset.
    """
    own = dict(values)
    begin = own.pop(_BEGIN, "start")
    if begin == "start":
        return own, None
    try:
        moment = begin if isinstance(begin, datetime) else datetime.fromisoformat(begin)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        kind = '"start" or a moment with its offset, such as 2026-11-01T00:00:00+03:00'
        raise ValueError(f"adapters.{name}.{_BEGIN} must be {kind}")
    return own, moment


class Section:
    """One `[adapters.<name>]`; at the end `check_all_known` finds what was misspelt.

    Every method raises ValueError where the setting is missing or of another kind; the
    value itself is never in the message.
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name = name
        self._left = dict(values)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return value

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._take(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def table(self, name: str) -> Mapping[str, str]:
        """Texts by name; empty where it is not set."""
        value = self._take(name, {})
        if not isinstance(value, dict) or not all(isinstance(x, str) for x in value.values()):
            raise self.wrong(name, "a table of texts")
        return dict(value)

    def section(self, name: str) -> "Section | None":
        """A section within this one; None where it is not there."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "a table")
        return Section(f"{self._name}.{name}", value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def count(self, name: str, default: int) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(name, "a number from 1")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= DELIVERY_SECONDS:
            raise self.wrong(name, f"seconds, more than 0 and at most {DELIVERY_SECONDS:g}")
        return float(value)

    def check_all_known(self) -> None:
        if self._left:
            names = ", ".join(sorted(self._left))
            raise ValueError(f"adapters.{self._name} has unknown settings: {names}")

    def wrong(self, name: str, kind: str) -> ValueError:
        return ValueError(f"adapters.{self._name}.{name} must be {kind}")

    def _take(self, name: str, default: object) -> Any:
        value = self._left.pop(name, default)
        if value is None:
            raise ValueError(f"adapters.{self._name}.{name} is missing")
        return value
