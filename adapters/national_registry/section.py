"""An adapter's section of the settings file, read key by key and checked."""

from collections.abc import Mapping
from typing import Any

from fhir_server.outbox.session import Timeouts
from fhir_server.outbox.sink import DELIVERY_SECONDS


class Section:
    """The section of the settings file, read key by key; `name` is the adapter's."""

    def __init__(self, name: str, section: Mapping[str, Any]) -> None:
        self._name = name
        self._left = dict(section)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._take(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
            raise self._wrong(name, "a list of texts")
        return tuple(value)

    def table(self, name: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """A sub-table; `Section(name, …)` reads it."""
        value = self._take(name, default)
        if not isinstance(value, Mapping):
            raise self._wrong(name, "a table")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def count(self, name: str, default: int, least: int = 1) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._wrong(name, f"a number from {least}")
        return value

    def seconds(self, name: str, default: float) -> float:
        return self.number(name, default, DELIVERY_SECONDS, "seconds")

    def number(self, name: str, default: float, most: float, unit: str) -> float:
        """More than 0 and at most `most`."""
        value = self._take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= most:
            raise self._wrong(name, f"{unit}, more than 0 and at most {most:g}")
        return float(value)

    def timeouts(self) -> Timeouts:
        return Timeouts(
            connect=self.seconds("connect_seconds", 5.0),
            read=self.seconds("read_seconds", 30.0),
            total=self.seconds("total_seconds", 45.0),
        )

    def check_all_known(self) -> None:
        if self._left:
            names = ", ".join(sorted(self._left))
            raise ValueError(f"adapters.{self._name} has unknown settings: {names}")

    def _take(self, name: str, default: object) -> Any:
        value = self._left.pop(name, default)
        if value is None:
            raise ValueError(f"adapters.{self._name}.{name} is missing")
        return value

    def _wrong(self, name: str, kind: str) -> ValueError:
        return ValueError(f"adapters.{self._name}.{name} must be {kind}")
