"""Composition root: builds Context, store, mappings, routes and sinks.

The only module that knows the clock, chance and the drivers; `receivers` knows the adapters.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from secrets import token_bytes
from time import monotonic

from fastapi import FastAPI

from adapters.national_registry.documents import settings as document_registry
from adapters.national_registry.documents.sink import NAME as DOCUMENT_REGISTRY
from adapters.rest_hook.sink import RestHook
from adapters.terminology_server.client import TerminologyClient
from fhir_server import __version__
from fhir_server.core.date_range import load_zone
from fhir_server.core.mapping.catalog import MappingCatalog, compile_catalog
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.core.search.index import Indexer
from fhir_server.core.subscription_condition import compile_condition
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.definitions import (
    Definitions,
    load,
    read_mapping_files,
    read_mapping_language,
    read_monitoring_rules,
    read_topics,
)
from fhir_server.entrance import Entrance, open_entrance, open_presence
from fhir_server.exporting import Exporting, open_exports
from fhir_server.garbage import tune_garbage_collection
from fhir_server.interactions.authorize import Authorizer
from fhir_server.interactions.context import MOST_DELETIONS, Context, Limits
from fhir_server.interactions.definition_shelf import DefinitionShelf
from fhir_server.interactions.operation import Operations
from fhir_server.interactions.shipped import Shipped
from fhir_server.new_id import new_id
from fhir_server.operations.escalate import keep_escalating
from fhir_server.operations.guard_assignments import AssignmentGuard
from fhir_server.operations.guard_shipped import ShippedGuard
from fhir_server.operations.judge import Judge
from fhir_server.operations.judged_store import Judging
from fhir_server.operations.keep_views import keep_views
from fhir_server.operations.missed_measurements import keep_sweeping
from fhir_server.operations.place_again import PlacingAgain
from fhir_server.operations.plan_templates import store_templates
from fhir_server.operations.profile_checks import LiveProfiles, ProfileChecks
from fhir_server.operations.raise_alerts import Alerts
from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.section import split_begin
from fhir_server.outbox.sink import Sink
from fhir_server.outbox.sink_loop import Pace
from fhir_server.outbox.socket_binding import SocketSurroundings
from fhir_server.outbox.sockets import Sockets
from fhir_server.outbox.subscription_checks import SubscriptionChecks
from fhir_server.outbox.subscription_topics import LiveReader
from fhir_server.outbox.subscription_worker import PACE as SUBSCRIPTIONS_PACE
from fhir_server.outbox.subscription_worker import Subscriptions
from fhir_server.outbox.telling import Masking, unmasked
from fhir_server.outbox.worker import Worker
from fhir_server.privacy import Recipients, open_journal, private
from fhir_server.profile_folders import read_plan_definitions
from fhir_server.receivers import Receivers
from fhir_server.rest import health, metrics, openapi, readings, routes, websocket
from fhir_server.rest.application import Application
from fhir_server.rest.authenticator import Authenticator
from fhir_server.rest.draining import Draining
from fhir_server.rest.metrics import OutboxGauges
from fhir_server.rest.operation_routes import OPERATIONS
from fhir_server.security.presence import Presence
from fhir_server.settings import Settings
from fhir_server.store.open import OpenStore, open_store
from fhir_server.store.upkeep import adopt_definitions, follow_definitions, keep_purged


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the one clock


@dataclass(frozen=True, slots=True)
class Components:
    """Everything a process of this server may need, opened."""

    settings: Settings
    definitions: Definitions
    mappings: MappingCatalog
    store: OpenStore
    context: Context
    subscription_reader: SubscriptionReader
    live_reader: LiveReader
    authorizer: Authorizer
    recipients: Recipients
    presence: Presence | None = None

    async def close(self) -> None:
        """Let go of the stores."""
        if self.presence is not None:
            self.presence.close()
        await self.store.close()

    def sinks(self) -> tuple[Sink, ...]:
        """The receivers that the settings name.

        Raises:
            ValueError: as `Receivers.sinks`.
        """
        return Receivers(
            self.settings, self.store.outbox, self.definitions.parameters, now, self.recipients
        ).sinks()

    def worker(self) -> Worker:
        """What delivers to the receivers of the settings and to those who subscribe."""
        sinks = self.sinks()
        begins = (split_begin(name, each)[1] for name, each in self.settings.adapters.items())
        return Worker(
            self.store.outbox,
            sinks,
            subscriptions=self.subscriptions(),
            audit=DeliveryAudit(self.store.outbox, [sink.name for sink in sinks]),
            begins={s.name: at for s, at in zip(sinks, begins, strict=True) if at is not None},
        )

    def subscriptions(self, pace: Pace = SUBSCRIPTIONS_PACE) -> Subscriptions:
        """What follows the Subscriptions and sends to those who subscribe."""
        policy = OutboundPolicy(allow_private=self.settings.allow_private_endpoints)
        return Subscriptions(
            self.store.outbox,
            self.subscription_reader,
            self.context.index,
            RestHook(policy, self.definitions.element_types, now),
            now,
            base_url=self.settings.base_url,
            visible=self.authorizer.visible,
            masking=self._masking,
            is_orphaned=self.authorizer.is_orphaned,
            pace=pace,
            patience=timedelta(days=self.settings.subscription_patience_days),
        )

    def sockets(self) -> Sockets:
        """What tells those who subscribe by websocket."""
        return Sockets(
            SocketSurroundings(
                self.store.outbox,
                self.live_reader.read,
                now,
                self.settings.base_url,
                self.definitions.element_types,
                f"sockets/{new_id()}",
                self.authorizer.visible,
                self._masking,
            ),
            self.context.page_key,
            is_token_needed=self.settings.auth != "none",
        )

    @property
    def _masking(self) -> Masking:
        recipients = self.recipients
        return recipients.of_subscription if recipients.is_subscriber_masked else unmasked


def open_components(settings: Settings) -> Components:
    """Read the definitions and open the store.

    Raises:
        StoreUnavailable: the store cannot be opened.
        ValueError: a setting is wrong.
    """
    definitions = load(settings.mappings, settings.profiles, settings.terminology)
    language = read_mapping_language(definitions.terminology_folders, settings.time_zone)
    mappings = compile_catalog(read_mapping_files(definitions.mapping_folders), language)
    indexer = Indexer(definitions.parameters, definitions.element_types, settings.time_zone)
    subscription_reader = _subscription_reader(settings, definitions)
    extend = definitions.extension(settings.time_zone).extend
    keys = settings.chain_keys
    recipients = Recipients(settings, definitions.element_types)
    store = open_store(settings.store, indexer, definitions.parameters, now, extend, keys)
    live_reader = LiveReader(store.outbox, subscription_reader)
    live_profiles = LiveProfiles(definitions.profiles, store.outbox, definitions.codes_with)
    profile_checks = ProfileChecks(definitions.validator, live_profiles, settings.unknown_profiles)
    shipped, page_key = Shipped(definitions.shipped, indexer), settings.page_key.encode()
    judges = (ShippedGuard(shipped), *_judges(settings, definitions))
    context = Context(
        store=private(settings, definitions, store, judges, recipients),
        parameters=definitions.parameters,
        terminology=definitions.terminology,
        thorough=profile_checks,
        validator=SubscriptionChecks(
            profile_checks,
            live_reader,
            OutboundPolicy(allow_private=settings.allow_private_endpoints),
            now,
        ),
        now=now,
        new_id=new_id,
        base_url=settings.base_url,
        time_zone=settings.time_zone,
        limits=Limits(
            body_bytes=settings.max_body_bytes,
            bundle_entries=settings.max_bundle_entries,
            page_size=settings.max_page_size,
            answer_bytes=settings.max_answer_bytes,
            deletions=MOST_DELETIONS if settings.conditional_delete == "multiple" else 1,
            exports=settings.exports_per_client,
        ),
        is_validation_strict=settings.validation == "strict",
        index=indexer,
        page_key=sha256(page_key).digest() if page_key else token_bytes(32),
        element_types=definitions.element_types,
        compartments=definitions.compartments,
        operations=Operations(OPERATIONS),
        outbox=store.outbox,
        subscriptions=live_reader,
        shelf=DefinitionShelf(store.outbox, definitions.terminology),
        remote_terminology=_remote_terminology(settings),
        shipped=shipped,
        exports=open_exports(settings),
        is_audited=settings.is_audited,
        is_depersonalized=settings.depersonalized,
    )
    presence = open_presence(settings, now)
    authorizer = Authorizer(
        context, settings.consent_defaults, None if presence is None else presence.of
    )
    return Components(
        settings, definitions, mappings, store, context, subscription_reader, live_reader,
        authorizer, recipients, presence,
    )  # fmt: skip


def _judges(settings: Settings, definitions: Definitions) -> Iterator[Judging]:
    zone = load_zone(settings.time_zone)
    yield AssignmentGuard(definitions.parameters, zone, new_id)
    if settings.monitoring:
        rules = read_monitoring_rules(definitions.profile_folders)
        alerts = Alerts(definitions.parameters, zone, new_id)
        yield Judge(rules, definitions.parameters, zone, alerts)


def _subscription_reader(settings: Settings, definitions: Definitions) -> SubscriptionReader:
    reader = SubscriptionReader(
        definitions.parameters,
        base_url=settings.base_url,
        time_zone=settings.time_zone,
        terminology=definitions.terminology,
    )
    topics = read_topics(definitions.profile_folders)
    return reader.knowing(reader.parse_topic(topic, now(), compile_condition) for topic in topics)


def _remote_terminology(settings: Settings) -> TerminologyClient | None:
    url, keep_seconds = settings.terminology_server, settings.terminology_server_keep_seconds
    return TerminologyClient(url, keep_seconds, monotonic) if url else None


def create_app(
    settings: Settings | None = None,
    opened: Components | None = None,
    authenticator: Authenticator | None = None,
) -> FastAPI:
    """The ASGI application; the store closes after the last request.

    `opened` are components that were opened before, and are closed with the application;
    without them it opens its own when it starts. `authenticator` is asked who asks, in place
    of the one that the settings name.
    """
    settings = opened.settings if opened else settings or Settings()
    entrance = Entrance(authenticator) if authenticator else open_entrance(settings, now)
    draining = Draining(settings.drain_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        components = opened or open_components(settings)
        store = components.store
        app.state.context = replace(components.context, endpoints=entrance.endpoints)
        app.state.authenticator = entrance.authenticator
        app.state.mappings = components.mappings
        app.state.outbox_gauges = OutboxGauges(store.outbox, now)
        app.state.settings = settings
        app.state.authorizer = components.authorizer
        # Who has registrations open already shares them: some are in memory.
        components.authorizer.registered = entrance.registered(settings, now)
        app.state.shared_rates = entrance.shared_rates(now)
        app.state.audit_journal = await open_journal(settings, store)
        store.observe(metrics.count_commit)
        tune_garbage_collection()
        if DOCUMENT_REGISTRY in settings.adapters:
            section, _ = split_begin(DOCUMENT_REGISTRY, settings.adapters[DOCUMENT_REGISTRY])
            called = document_registry.endpoint(section, store.read, store.commit)
            app.router.routes.extend(called.routes())
            if called.asks_for_token:
                app.state.own_doors |= {route.path for route in called.routes()}
        worker = components.worker() if settings.deliver else None
        if worker:
            worker.start()
            store.observe(lambda group: worker.nudge() if group.versions else None)

        def adopt(live: SearchDefinitions) -> None:
            app.state.context = replace(
                app.state.context, parameters=live.parameters, index=live.indexer
            )

        await adopt_definitions(store, adopt)
        if settings.plan_templates:
            folders = components.definitions.profile_folders
            await store_templates(components.context, read_plan_definitions(folders))
        sweeping = (
            [asyncio.create_task(keep_sweeping(components.context))] if settings.monitoring else []
        )
        exporting = Exporting(settings, store, components.authorizer, app.state)
        upkeep = (
            *sweeping,
            asyncio.create_task(keep_purged(store, now, exporting.find_hold)),
            asyncio.create_task(follow_definitions(store, adopt)),
            asyncio.create_task(
                keep_escalating(components.context, settings.alert_escalation_minutes)
            ),
            asyncio.create_task(
                PlacingAgain(components.context, components.mappings, new_id()).keep_placing(
                    settings.placing_seconds
                )
            ),
            asyncio.create_task(keep_views(components.context, new_id(), settings.views_seconds)),
        )
        sockets = app.state.sockets = components.sockets()
        store.observe(lambda group: sockets.nudge() if group.versions else None)
        try:
            async with sockets.following(), exporting.working():
                with draining.on_signal():
                    yield
        finally:
            for task in upkeep:
                task.cancel()
            if worker:
                worker.stop()
            await components.close()
            entrance.close()

    app = Application(
        draining,
        settings.cors_origins,
        *settings.edge_limits(),
        title="FHIR server for personal medical assistants",
        version=__version__,
        lifespan=lifespan,
        # `rest/openapi.py` describes the API: FHIR's routes are not FastAPI's.
        openapi_url=None,
    )
    app.router.routes.extend(readings.readings_routes())
    app.router.routes.extend(websocket.websocket_routes())
    app.router.routes.extend(health.health_routes())
    app.router.routes.extend(entrance.routes)
    app.router.routes.extend(openapi.openapi_routes(routes.FHIR_ROUTES))
    return app
