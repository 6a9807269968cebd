"""What an interaction is given: the store, the definitions, the clock, who asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from secrets import token_bytes
from typing import Protocol

from fhir_server.core.compartment import Compartments
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.operation_input import Inputs
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import UNRESTRICTED, Restriction
from fhir_server.core.security.glass import BrokenGlass
from fhir_server.core.security.reach import Reach
from fhir_server.core.security.smart_configuration import Endpoints
from fhir_server.core.subscription import Subscription
from fhir_server.core.subscription_topic import Topic
from fhir_server.core.terminology.terminology import NOTHING_KNOWN, Terminology
from fhir_server.core.version import Version
from fhir_server.errors import Issue
from fhir_server.interactions.definition_shelf import DefinitionShelf
from fhir_server.interactions.operation import Operations
from fhir_server.interactions.shipped import Shipped
from fhir_server.store.exports.protocol import ExportStore
from fhir_server.store.protocol import Outbox, Store


class Validator(Protocol):
    """Whether a resource keeps the rules; an instance is `core.validation`'s."""

    @property
    def resource_types(self) -> frozenset[str]:
        """Every resource type of R4 that can be stored."""
        ...

    def check(self, resource: Resource) -> tuple[Issue, ...]:
        """All faults; empty if there are none."""
        ...


class ThoroughValidator(Protocol):
    """Everything that can be said of a resource, for one who asks."""

    @property
    def supported_profiles(self) -> tuple[tuple[str, str], ...]:
        """The profiles that are always here: resource type and canonical URL."""
        ...

    def speaks_for_its_shape(self, resource: Resource) -> bool:
        """Whether what is told of a resource holds for others that only measured otherwise."""
        ...

    def check_thoroughly(self, resource: Resource, profiles: Sequence[str]) -> tuple[Issue, ...]:
        """What breaks R4's rules, the profiles that it claims, and these; and what is missing.

        Raises:
            StoreUnavailable: the profiles that are stored cannot be read.
        """
        ...


class Subscribable(Protocol):
    """What can be subscribed to, and what a Subscription asks for."""

    @property
    def topics(self) -> Mapping[str, Topic]:
        """By canonical URL."""
        ...

    def read(self, version: Version) -> Subscription:
        """Raises `InvalidResource`: something that cannot be done; each is an issue."""
        ...


class RemoteTerminology(Protocol):
    """Another server that is asked for what is not known here. Its calls wait: never on a loop.

    Raises:
        TerminologyUnavailable: it does not answer, or what it answers is no use.
    """

    def expansion(self, url: str) -> Resource | None:
        """The value set at `url`, expanded; None: it has none."""
        ...

    def invoke(self, path: str, inputs: Inputs) -> Resource | None:
        """What the operation at `path` answers; None: it does not know what is asked about."""
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what that lets them see."""

    name: str
    restriction: Restriction = UNRESTRICTED


ANYONE = Principal("anyone")


MOST_DELETIONS = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost."""

    body_bytes: int = 16 * 1024 * 1024
    bundle_entries: int = 5_000
    page_size: int = 1_000
    default_page_size: int = 50
    answer_bytes: int = 64 * 1024 * 1024
    # By one condition; 1 is only what one resource alone matches.
    deletions: int = 1
    # Bulk exports of one client that are kept at a time.
    exports: int = 10


def _not_indexed(_resource: Resource) -> IndexEntries:
    raise LookupError("this context was made without an index")


@dataclass(frozen=True, slots=True)
class Context:
    """One request's view of the server; made by the composition root, then per request.

    `base_url` is the FHIR base without a trailing slash ("http://host/fhir").
    `time_zone` is an IANA name: the zone of bare dates. `now` is aware, in UTC. `index`
    says what a resource refers to, for `_include`; `element_types` what a summary keeps.
    `operations` are those that routes, Bundles and the CapabilityStatement know.
    `page_key` makes page links: processes that serve the same clients share it. `outbox`
    and `subscriptions` are for what is asked about deliveries, `thorough` for `$validate`.
    `shelf` keeps definitions between requests; `shipped` are those that come with the program.
    `endpoints` are where tokens are had, by the base URL; None where nobody is asked for any.
    `exports` is where bulk exports are kept.
    `reach` is what the principal may do; None is everything. `glass` is set where it was broken
    to get at a record. Where accesses are recorded (`is_audited`) AuditEvents are the server's
    alone; a store that `is_depersonalized` keeps nothing that names a patient.
    """

    store: Store
    parameters: SearchParameters
    validator: Validator
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    base_url: str = ""
    time_zone: str = "Europe/Moscow"
    limits: Limits = Limits()
    principal: Principal = ANYONE
    terminology: Terminology = NOTHING_KNOWN
    is_validation_strict: bool = True
    index: Callable[[Resource], IndexEntries] = _not_indexed
    element_types: ElementTypes = field(default_factory=lambda: ElementTypes({}))
    page_key: bytes = field(default_factory=lambda: token_bytes(32), repr=False)
    compartments: Compartments = field(default_factory=lambda: Compartments({}))
    operations: Operations = field(default_factory=Operations)
    outbox: Outbox | None = None
    subscriptions: Subscribable | None = None
    shelf: DefinitionShelf | None = None
    remote_terminology: RemoteTerminology | None = None
    thorough: ThoroughValidator | None = None
    shipped: Shipped = field(default_factory=Shipped)
    endpoints: Callable[[str], Endpoints | None] | None = None
    exports: ExportStore | None = None
    reach: Reach | None = None
    glass: BrokenGlass | None = None
    is_audited: bool = False
    is_depersonalized: bool = False

    def at(self, base_url: str) -> "Context":
        """The same, for a request that came by `base_url`."""
        return self if base_url == self.base_url else replace(self, base_url=base_url)
