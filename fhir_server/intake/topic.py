"""Topics: which messages are asked for, and what a topic says of its message.

A template is a topic filter of MQTT in which a whole level may be `{device}`, `{patient}`,
`{gateway}` or `{mapping}`: ``clinics/{gateway}/{device}/readings``.
"""

import re
from typing import NamedTuple

NAMES = frozenset({"device", "patient", "gateway", "mapping"})

_LONGEST = 65_535
_GROUP = re.compile(r"[^/+#\s]{1,64}\Z")


class Hints(NamedTuple):
    """What a topic says; "" where it is silent."""

    mapping: str
    device: str = ""
    patient: str = ""
    gateway: str = ""


class TopicRoute(NamedTuple):
    """A template in levels, and the mapping of its payloads where no level names it.

    `device_system` is the system of identifiers that a topic or a message gives bare.
    """

    levels: tuple[str, ...]
    mapping: str = ""
    device_system: str = ""

    @property
    def filter(self) -> str:
        """What is subscribed to."""
        return "/".join("+" if _name(level) else level for level in self.levels)

    def match(self, topic: str) -> Hints | None:
        """What `topic` says, if it is one of this template's."""
        levels = topic.split("/")
        is_open = self.levels[-1] == "#"
        wanted = self.levels[:-1] if is_open else self.levels
        if len(levels) < len(wanted) or (len(levels) > len(wanted) and not is_open):
            return None
        said = {"mapping": self.mapping}
        for template, level in zip(wanted, levels, strict=False):
            if name := _name(template):
                said[name] = level
            elif template not in ("+", level):
                return None
        return Hints(**said)


def parse_route(template: str, mapping: str = "", device_system: str = "") -> TopicRoute:
    """Raises `ValueError`: no filter of MQTT, a name that is not known, or no one mapping."""
    levels = tuple(template.split("/"))
    if not template or len(template.encode()) > _LONGEST or "\0" in template:
        raise ValueError("a topic has 1 to 65535 bytes")
    if template.startswith("$"):
        raise ValueError(f"{template}: topics of the broker are no readings; --share shares")
    for place, level in enumerate(levels):
        name = _name(level)
        if name and name not in NAMES:
            raise ValueError(f"{template}: {{{name}}} is none of {', '.join(sorted(NAMES))}")
        is_word = not set(level) & set("+#{}")
        if not (name or is_word or level == "+" or (level == "#" and place == len(levels) - 1)):
            raise ValueError(f"{template}: +, # and {{names}} stand for whole levels, # at the end")
    names = [name for level in levels if (name := _name(level))]
    if len(set(names)) < len(names):
        raise ValueError(f"{template}: a name stands twice")
    if ("mapping" in names) == bool(mapping):
        raise ValueError(f"{template}: the mapping is named by --mapping or by {{mapping}}")
    return TopicRoute(levels, mapping, device_system)


def shared(topic_filter: str, group: str) -> str:
    """The filter of a subscription that several listeners share.

    Raises:
        ValueError: `group` cannot name one.
    """
    if not _GROUP.match(group):
        raise ValueError("a shared subscription's name has no /, +, # or space")
    return f"$share/{group}/{topic_filter}"


def _name(level: str) -> str:
    return level[1:-1] if level.startswith("{") and level.endswith("}") else ""
