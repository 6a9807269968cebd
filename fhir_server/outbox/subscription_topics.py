"""The topics that there are: those shipped, and those that clients write as Basics.

A Subscription means what its topic says: when a topic changes, so does who listens, from that
place of the commit order on (`subscription_book`).
"""

from collections.abc import Mapping
from datetime import datetime
from threading import Lock

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription import Subscription
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.core.subscription_topic import Topic
from fhir_server.core.subscription_topic_basic import (
    RESOURCE_TYPE,
    is_topic,
    may_be_topic,
    to_topic,
)
from fhir_server.core.version import Version
from fhir_server.errors import Issue
from fhir_server.store.protocol import Outbox


class Topics:
    """Topics as versions of Basics make them; `reader` knows them. One thread at a time.

    Of several with one URL the shipped one counts, else the one that was there first.
    """

    def __init__(self, reader: SubscriptionReader) -> None:
        self.reader = reader
        self._shipped = reader.topics
        self._written: dict[ResourceKey, Topic | None] = {}

    def apply(self, version: Version) -> frozenset[str]:
        """Take a version of a Basic in; the URLs of which the topic is another now."""
        known = self._written.get(version.key)
        if known is None and (version.body is None or not may_be_topic(version.body)):
            return frozenset()
        self._written[version.key] = self._read(version)
        before = self.reader.topics
        written = (topic for topic in self._written.values() if topic is not None)
        topics = {topic.url: topic for topic in reversed(tuple(written))} | dict(self._shipped)
        self.reader = self.reader.knowing(topics.values())
        return frozenset(
            url for url in before.keys() | topics.keys() if before.get(url) != topics.get(url)
        )

    def faults(self, key: ResourceKey, parsed: Topic) -> tuple[Issue, ...]:
        """Why a topic that could be read cannot be stored."""
        others = (topic.url for known, topic in self._written.items() if topic and known != key)
        if parsed.url in self._shipped or parsed.url in others:
            return (Issue("business-rule", "another topic has this url", "Basic.extension"),)
        return ()

    def _read(self, version: Version) -> Topic | None:
        if version.body is None:
            return None
        resource = version.resource()
        try:
            topic = to_topic(resource) if is_topic(resource) else None
            if topic is None or topic.get("status", "active") != "active":
                return None
            return self.reader.parse_topic(topic, version.last_updated)
        except (ValueError, AttributeError, TypeError, KeyError):
            return None  # stored where validation only warns


class LiveReader:
    """Reads Subscriptions by the topics as they are stored now. Safe from any thread.

    The store is asked only for what is no shipped topic.
    """

    def __init__(self, outbox: Outbox, reader: SubscriptionReader) -> None:
        self._outbox = outbox
        self._shipped = reader.topics
        self._topics = Topics(reader)
        self._lock = Lock()
        self._seen = 0

    @property
    def topics(self) -> Mapping[str, Topic]:
        """All of them, by canonical URL.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        return self._current().topics

    def read(self, version: Version) -> Subscription:
        """What `version` asks for.

        Raises:
            InvalidResource: something that cannot be done; each is an issue.
            StoreUnavailable: the topics cannot be read.
        """
        return self._reader_for(version.resource()).read(version)

    def parse(
        self, key: ResourceKey, version_id: int, resource: Resource, now: datetime
    ) -> Subscription:
        """What `resource` asks for.

        Raises:
            InvalidResource: something that cannot be done; each is an issue.
            StoreUnavailable: the topics cannot be read.
        """
        return self._reader_for(resource).parse(key, version_id, resource, now)

    def check_topic(self, key: ResourceKey, resource: Resource, now: datetime) -> tuple[Issue, ...]:
        """Why a Basic that is a topic cannot be one."""
        reader = self._current()
        try:
            topic = to_topic(resource)
            parsed = reader.parse_topic(topic, now)
        except ValueError as error:
            return (Issue("invalid", str(error), "Basic.extension"),)
        except (AttributeError, TypeError, KeyError):
            return (Issue("structure", "the topic cannot be read", "Basic.extension"),)
        with self._lock:
            return self._topics.faults(key, parsed)

    def _reader_for(self, resource: Resource) -> SubscriptionReader:
        criteria = resource.get("criteria")
        is_url = isinstance(criteria, str) and "://" in criteria.partition("?")[0]
        if is_url and criteria not in self._shipped:
            return self._current()
        return self._topics.reader

    def _current(self) -> SubscriptionReader:
        with self._lock:
            newest, versions = self._outbox.changes(self._seen, (RESOURCE_TYPE,))
            for version in versions:
                self._topics.apply(version)
            self._seen = max(self._seen, newest)
            return self._topics.reader
