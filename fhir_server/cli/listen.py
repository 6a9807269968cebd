"""`fhir-server listen`: readings from the topics of an MQTT broker."""

import asyncio
import logging.config
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from prometheus_client import start_http_server

from fhir_server.app import Components, now, open_components
from fhir_server.cli import logs, start_up
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.errors import StoreUnavailable
from fhir_server.garbage import tune_garbage_collection
from fhir_server.intake.broker import Broker, Certificates, parse_broker
from fhir_server.intake.connection import Connection, Session
from fhir_server.intake.listener import Listener, ListenError, Pace
from fhir_server.intake.topic import TopicRoute, parse_route, shared
from fhir_server.rest import metrics
from fhir_server.settings import MqttTopic, Settings, is_loopback
from fhir_server.store.upkeep import adopt_definitions, follow_definitions

_log = logging.getLogger("fhir_server.listen")

_DAY_SECONDS = 86_400
_NEVER = 0xFFFF_FFFF


def listen(
    broker: Annotated[str | None, typer.Option(help="mqtts://user@host:port, or mqtt://.")] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: devices/{device}/readings; levels: + # {device} {mapping}."),
    ] = None,
    mapping: Annotated[
        list[str] | None, typer.Option(help="One for all topics, or one a topic in their order.")
    ] = None,
    device_system: Annotated[
        str, typer.Option(help="The system of device identifiers that stand in topics.")
    ] = "",
    client_id: Annotated[
        str | None, typer.Option(help="The name of the session: stable, another a listener.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(help="The group of listeners that share the messages.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Who signed the broker's key.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Ours, in PEM.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its key, unless it is in the same file.")
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Metrics on 127.0.0.1; 0: none.")
    ] = 0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish what is under way on a stop.")
    ] = 15.0,
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
) -> None:
    """Take readings from a broker; a message is acknowledged when it is durable."""
    given: dict[str, Any] = {
        name: value
        for name, value in {
            "broker": broker,
            "client_id": client_id,
            "share": share,
            "ca_file": ca_file,
            "certificate": certificate,
            "key": key,
        }.items()
        if value is not None
    }
    with start_up.told_in_one_line():
        settings = start_up.read_settings(**({} if store is None else {"store": store}))
        if topic:
            given["topics"] = _topics(topic, mapping or [], device_system)
        elif mapping or device_system:
            raise ValueError("--mapping and --device-system are of a --topic")
        mqtt = settings.mqtt.model_copy(update=given)
        settings = settings.model_copy(update={"mqtt": mqtt})
        found = _broker(settings)
        routes = tuple(parse_route(t.topic, t.mapping, t.device_system) for t in mqtt.topics)
        session = _session(settings, routes)
        logging.config.dictConfig(logs.configuration(settings))
        if warning := start_up.check_store_folder(settings.store):
            _log.warning(warning)
        components = _open(settings, routes)
        if metrics_port:
            _expose(metrics_port)
    try:
        asyncio.run(_listen(components, found, session, routes, grace))
    except ListenError as error:
        start_up.tell(str(error))
        raise typer.Exit(1) from None


def _topics(topics: Sequence[str], mappings: Sequence[str], system: str) -> tuple[MqttTopic, ...]:
    """Each topic with its mapping; one that has a level for it takes none.

    Raises:
        ValueError: there are more of one than of the other.
    """
    silent = [topic for topic in topics if "{mapping}" not in topic]
    names = list(mappings) * len(silent) if len(mappings) == 1 else list(mappings)
    if len(names) != len(silent):
        raise ValueError("--mapping is given once, or once for each --topic that names none")
    named = dict(zip(silent, names, strict=True))
    return tuple(
        MqttTopic(topic=topic, mapping=named.get(topic, ""), device_system=system)
        for topic in topics
    )


def _broker(settings: Settings) -> Broker:
    mqtt = settings.mqtt
    if not mqtt.broker:
        raise ValueError("no broker is named: --broker, or broker in [mqtt]")
    certificates = Certificates(mqtt.ca_file, mqtt.certificate, mqtt.key)
    broker = parse_broker(mqtt.broker, settings.mqtt_password, certificates)
    if broker.tls is None and not is_loopback(broker.host) and not settings.allow_insecure:
        raise ValueError(
            "mqtt:// is refused to another machine: anyone between could read the patients' data. "
            "Use mqtts://, or set FHIR_SERVER_ALLOW_INSECURE=1 to accept this."
        )
    return broker


def _session(settings: Settings, routes: Sequence[TopicRoute]) -> Session:
    mqtt = settings.mqtt
    if not routes:
        raise ValueError("no topic is named: --topic, or topics in [mqtt]")
    filters = dict.fromkeys(route.filter for route in routes)
    return Session(
        mqtt.client_id or f"fhir-server-{socket.gethostname()}",
        tuple(shared(f, mqtt.share) if mqtt.share else f for f in filters),
        # The largest number would be for ever.
        min(int(mqtt.session_days * _DAY_SECONDS), _NEVER - 1),
        mqtt.receive_maximum,
        min(mqtt.max_payload_bytes, settings.max_body_bytes),
    )


def _open(settings: Settings, routes: Sequence[TopicRoute]) -> Components:
    try:
        components = open_components(settings)
    except StoreUnavailable as error:
        raise start_up.cannot_open(settings.store, error) from None
    for name in {route.mapping for route in routes} - {""}:
        found = components.mappings.get(name)
        if found is None or (isinstance(found, Mapping) and found.is_enrolment):
            asyncio.run(components.store.close())
            raise ValueError(f"no mapping of readings is called {name}")
    return components


def _expose(port: int) -> None:
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise start_up.StartUpError(f"port {port} cannot be used: {error.strerror}") from None


async def _listen(
    components: Components,
    broker: Broker,
    session: Session,
    routes: Sequence[TopicRoute],
    grace: float,
) -> None:
    store, mqtt = components.store, components.settings.mqtt
    pace = Pace(mqtt.batch, mqtt.linger_ms / 1_000, 5 * mqtt.receive_maximum)
    listener = Listener(components.context, components.mappings, routes, pace)
    connection = Connection(broker, session, now, listener.arrived, listener.failed)

    def adopt(live: SearchDefinitions) -> None:
        listener.context = replace(listener.context, parameters=live.parameters, index=live.indexer)

    await adopt_definitions(store, adopt)
    store.observe(metrics.count_commit)
    tune_garbage_collection()
    following = asyncio.create_task(follow_definitions(store, adopt))
    running = asyncio.create_task(listener.run(connection))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    stopped = asyncio.create_task(stopping.wait())
    connection.open()
    try:
        await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        listener.stop()
        # A batch that the store does not take in time stays the broker's.
        await asyncio.wait((running,), timeout=grace)
        if running.done():
            running.result()
        else:
            _log.warning("stopped before what was under way was decided; it comes again")
    finally:
        for task in (running, stopped, following):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await connection.close()
        await store.close()
