"""Reads Subscriptions; what cannot be done for one is an issue.

Criteria-based as in R4, and topic-based by the extensions of the R5 backport.
https://hl7.org/fhir/R4/subscription.html
https://hl7.org/fhir/uv/subscriptions-backport/
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fhir_server.core import query_string, subscription_topic
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters, SearchType
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import Criterion, Has
from fhir_server.core.subscription import (
    DEFAULT_EVENTS,
    JSON_TYPES,
    XML_TYPES,
    Channel,
    ChannelType,
    Content,
    Status,
    Subscription,
)
from fhir_server.core.subscription_topic import Condition, Topic, Trigger, chained
from fhir_server.core.terminology.terminology import NOTHING_KNOWN, Terminology
from fhir_server.core.version import Version
from fhir_server.errors import InvalidResource, InvalidSearch, Issue

EXTENSION = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
MOST_EVENTS = 100

_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):[ \t]*([\x20-\x7e\t]{0,4000})\Z")
# What frames a request is ours; a second one could say something else to the receiver.
_OUR_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te",
     "upgrade", "trailer", "expect", "keep-alive", "accept-encoding", "idempotency-key"}
)  # fmt: skip


_ORDERED = frozenset({SearchType.NUMBER, SearchType.DATE, SearchType.QUANTITY})
_COMPARATOR = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)[0-9+\-.]")


class SubscriptionReader:
    """Reads Subscriptions; knows what this server can evaluate. Safe to share."""

    def __init__(
        self,
        parameters: SearchParameters,
        topics: Iterable[Topic] = (),
        *,
        base_url: str,
        time_zone: str,
        terminology: Terminology = NOTHING_KNOWN,
    ) -> None:
        self._parameters = parameters
        self._terminology = terminology
        self._topics = {topic.url: topic for topic in topics}
        self._base_url = base_url
        self._time_zone = time_zone

    @property
    def topics(self) -> Mapping[str, Topic]:
        """By canonical URL."""
        return self._topics

    def knowing(self, topics: Iterable[Topic]) -> "SubscriptionReader":
        """The same, with these topics."""
        return SubscriptionReader(
            self._parameters,
            topics,
            base_url=self._base_url,
            time_zone=self._time_zone,
            terminology=self._terminology,
        )

    def parse_topic(
        self,
        resource: Resource,
        now: datetime,
        compile_condition: Callable[[str], Condition] | None = None,
    ) -> Topic:
        """A SubscriptionTopic, its criteria read as those of a Subscription.

        Without `compile_condition` it may have no fhirPathCriteria.

        Raises:
            ValueError: it asks for what this server does not evaluate.
        """
        return subscription_topic.parse(
            resource,
            lambda resource_type, params: parse_criteria(
                resource_type,
                params,
                self._parameters,
                base_url=self._base_url,
                time_zone=self._time_zone,
                now=now,
                terminology=self._terminology,
            ),
            compile_condition,
        )

    def read(self, version: Version) -> Subscription:
        """What `version` asks for.

        Relative dates count from when it was stored, so every process understands the same.

        Raises:
            InvalidResource: something that cannot be done; each is an issue.
        """
        return self.parse(version.key, version.version_id, version.resource(), version.last_updated)

    def parse(
        self, key: ResourceKey, version_id: int, resource: Resource, now: datetime
    ) -> Subscription:
        """What `resource` asks for.

        Raises:
            InvalidResource: something that cannot be done; each is an issue.
        """
        reading = _Reading(
            self._parameters,
            self._topics,
            self._base_url,
            self._time_zone,
            self._terminology,
            now,
        )
        try:
            found = reading.subscription(key, version_id, resource)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise InvalidResource(
                issues=(Issue("structure", "the Subscription cannot be read", "Subscription"),)
            ) from None
        if reading.issues:
            raise InvalidResource(issues=tuple(reading.issues))
        return found


class _Reading:
    """One resource while it is read; what is wrong gathers in `issues`."""

    def __init__(
        self,
        parameters: SearchParameters,
        topics: Mapping[str, Topic],
        base_url: str,
        time_zone: str,
        terminology: Terminology,
        now: datetime,
    ) -> None:
        self._terminology = terminology
        self.issues: list[Issue] = []
        self._parameters = parameters
        self._topics = topics
        self._base_url = base_url
        self._time_zone = time_zone
        self._now = now

    def subscription(self, key: ResourceKey, version_id: int, resource: Resource) -> Subscription:
        end = resource.get("end")
        text = resource["criteria"]
        extensions = tuple(_extensions(resource.get("_criteria")))
        topic = self._topics.get(text)
        filters: dict[str, tuple[Criterion, ...]] = {}
        if topic is None:
            triggers = self._criteria(text, extensions)
        else:
            triggers = topic.triggers
            filters = self._filters(topic, extensions)
        channel = self._channel(resource["channel"], is_topic=topic is not None)
        return Subscription(
            key,
            version_id,
            Status(resource["status"]),
            None if end is None else _instant(end),
            "" if topic is None else topic.url,
            triggers,
            filters,
            channel,
        )

    def _criteria(self, text: str, extensions: Sequence[tuple[str, Any]]) -> tuple[Trigger, ...]:
        path = "Subscription.criteria"
        if "://" in text.partition("?")[0]:
            self._refuse("not-supported", "the topic is not known", path)
            return ()
        if extensions:
            self._refuse("not-supported", "filters go with a topic, not with criteria", path)
        found = self._search(text, path)
        if found is None:
            return ()
        return (Trigger(found[0], frozenset({"create", "update"}), found[1]),)

    def _filters(
        self, topic: Topic, extensions: Sequence[tuple[str, Any]]
    ) -> dict[str, tuple[Criterion, ...]]:
        filters: dict[str, tuple[Criterion, ...]] = {}
        for number, (name, text) in enumerate(extensions):
            path = f"Subscription.criteria.extension[{number}]"
            if name != "filter-criteria":
                self._refuse("not-supported", f"{name} is not supported", path)
                continue
            resource_type, _, query = str(text).partition("?")
            allowed = topic.filters.get(resource_type, {})
            for parameter, value in query_string.parse(query):
                code, _, modifier = parameter.partition(":")
                if code in allowed:
                    used = self._comparators(resource_type, code, value)
                    if reason := allowed[code].fault(modifier, used):
                        self._refuse("not-supported", reason, path)
                else:
                    known = ", ".join(sorted(allowed)) or "nothing"
                    self._refuse(
                        "not-supported",
                        f"the topic cannot be filtered by this; of {resource_type[:64]}: {known}",
                        path,
                    )
            found = self._search(str(text), path)
            if found is not None:
                filters[found[0]] = (*filters.get(found[0], ()), *found[1])
        return filters

    def _comparators(self, resource_type: str, code: str, value: str) -> set[str]:
        """What the values begin with, where a parameter of that type has comparators."""
        parameter = self._parameters.for_type(resource_type).get(code)
        if parameter is None or parameter.type not in _ORDERED:
            return set()
        found = (_COMPARATOR.match(each) for each in value.split(","))
        return {"eq" if each is None else each[1] for each in found}

    def _search(self, text: str, path: str) -> tuple[str, tuple[Criterion, ...]] | None:
        resource_type, _, query = text.removeprefix("/").partition("?")
        if resource_type not in self._parameters.resource_types:
            self._refuse("invalid", "expected a resource type and search parameters", path)
            return None
        if resource_type == "Subscription":
            self._refuse("not-supported", "a Subscription is not told to others", path)
            return None
        try:
            params = query_string.parse(query)
            criteria = (
                parse_criteria(
                    resource_type,
                    params,
                    self._parameters,
                    base_url=self._base_url,
                    time_zone=self._time_zone,
                    now=self._now,
                    terminology=self._terminology,
                )
                if params
                else ()
            )
        except InvalidSearch as error:
            self._refuse("not-supported", str(error), path)
            return None
        if any(isinstance(criterion, Has) for criterion in chained(criteria)):
            self._refuse("not-supported", "_has cannot be evaluated for a subscription", path)
            return None
        return resource_type, criteria

    def _channel(self, channel: Mapping[str, Any], *, is_topic: bool) -> Channel:
        path = "Subscription.channel"
        kind = self._channel_type(channel)
        endpoint = channel.get("endpoint", "")
        if kind is ChannelType.WEBSOCKET:
            endpoint = ""
            if channel.get("header"):
                self._refuse("not-supported", "a websocket has no headers", f"{path}.header")
        elif not endpoint:
            self._refuse("required", f"a {kind} needs an endpoint", f"{path}.endpoint")
        extensions = dict(_extensions(channel))
        content = self._content(channel, is_topic=is_topic)
        media_type = channel.get("payload", "")
        if content is not None and not media_type:
            media_type = "application/fhir+json"
        if media_type and media_type.partition(";")[0].strip() not in JSON_TYPES | XML_TYPES:
            self._refuse(
                "not-supported",
                "the payload is application/fhir+json or application/fhir+xml",
                f"{path}.payload",
            )
        return Channel(
            endpoint,
            media_type,
            content,
            tuple(self._headers(channel.get("header", ()))),
            self._number(extensions, "heartbeat-period", 5, 86_400 * 31),
            self._number(extensions, "timeout", 1, 3_600),
            min(self._number(extensions, "max-count", 1, 2**31) or DEFAULT_EVENTS, MOST_EVENTS),
            kind,
        )

    def _channel_type(self, channel: Mapping[str, Any]) -> ChannelType:
        text = channel["type"]
        is_special = any(name == "channel-type" for name, _ in _extensions(channel.get("_type")))
        if text in list(ChannelType) and not is_special:
            return ChannelType(text)
        known = ", ".join(ChannelType)
        self._refuse(
            "not-supported",
            f"a channel is one of {known}, not {text[:40]}",
            "Subscription.channel.type",
        )
        return ChannelType.REST_HOOK

    def _content(self, channel: Mapping[str, Any], *, is_topic: bool) -> Content | None:
        text = dict(_extensions(channel.get("_payload"))).get("payload-content")
        path = "Subscription.channel.payload.extension"
        if text is None:
            if is_topic:
                self._refuse("required", "a topic needs backport-payload-content", path)
            return None
        if text not in list(Content):
            self._refuse("not-supported", "expected empty, id-only or full-resource", path)
            return None
        return Content(text)

    def _headers(self, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(lines):
            path = f"Subscription.channel.header[{number}]"
            found = _HEADER.match(line)
            if found is None:
                self._refuse("invalid", "expected a header: a name, a colon, a value", path)
            elif found[1].lower() in _OUR_HEADERS:
                self._refuse("not-supported", "this header is the server's own", path)
            else:
                yield found[1], found[2].strip()

    def _number(
        self, extensions: Mapping[str, Any], name: str, least: int, most: int
    ) -> int | None:
        value = extensions.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._refuse(
                "value", f"{name} is from {least} to {most}", "Subscription.channel.extension"
            )
            return None
        return value

    def _refuse(self, code: str, diagnostics: str, path: str) -> None:
        self.issues.append(Issue(code, diagnostics, path))


def _extensions(element: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """The backport's extensions of an element: the last part of their name and their value."""
    for extension in (element or {}).get("extension", ()):
        url = extension["url"]
        if url.startswith(EXTENSION):
            values = [value for name, value in extension.items() if name.startswith("value")]
            yield url.removeprefix(EXTENSION), values[0] if values else None


def _instant(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("an instant has a time zone")
    return when
