"""`fhir-server serve`: the HTTP server, which also drains the outbox."""

import asyncio
import contextlib
import logging.config
import os
import secrets
import signal
import socket
import ssl
import tempfile
from typing import Annotated, Any

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from fhir_server.app import Components, create_app, now, open_components
from fhir_server.cli import logs, start_up
from fhir_server.core.security.registration import Client, Gateway
from fhir_server.entrance import open_registrations
from fhir_server.errors import StoreUnavailable
from fhir_server.rest.connection import Connection
from fhir_server.rest.metrics import SHARED_FOLDER
from fhir_server.settings import Settings, check_exposure
from fhir_server.store.open import sqlite_path

_log = logging.getLogger("fhir_server.serve")

# Seconds that a request which was accepted may take to be finished on a stop.
_GRACE = 20


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Server processes.")] = 1,
    auth: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_AUTH.")] = None,
    no_deliver: Annotated[
        bool, typer.Option("--no-deliver", help="Leave the outbox to `fhir-server deliver`.")
    ] = False,
) -> None:
    """Serve FHIR at /fhir and take readings at /readings."""
    # Worker processes read their settings anew, so options travel as environment.
    for name, value in (("STORE", store), ("AUTH", auth), ("DELIVER", "0" if no_deliver else None)):
        if value is not None:
            os.environ[f"FHIR_SERVER_{name}"] = value
    with start_up.told_in_one_line():
        settings = start_up.read_settings()
        check_exposure(settings, host)
        if workers > 1:
            settings = _for_many(settings)
        warning = start_up.check_store_folder(settings.store)
        bound = start_up.bind(host, port)
        logging.config.dictConfig(logs.configuration(settings))
        components = _open(settings)
        _check_security(settings)
    for complaint in (warning, *(f"{n} is no setting" for n in start_up.unknown_variables())):
        if complaint:
            _log.warning(complaint)
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls_certificate else "http"
    _log.info("serving %s://%s:%d", scheme, shown, bound.getsockname()[1])
    # A stop that was asked for is no failure: once the server has seen to it, so has this.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt), bound:
        if workers > 1:
            asyncio.run(components.store.close())
            _serve_many(settings, workers, bound)
        else:
            _serve_alone(components, bound)


def _open(settings: Settings) -> Components:
    """Everything opened, and the receivers of deliveries tried for their settings.

    Raises:
        ValueError, FhirError, StartUpError: what is wrong.
    """
    try:
        components = open_components(settings)
    except StoreUnavailable as error:
        raise start_up.cannot_open(settings.store, error) from None
    if settings.deliver:
        for sink in components.sinks():
            sink.close()
    return components


def _check_security(settings: Settings) -> None:
    """Try what the workers will open, and tell who starts with nobody registered.

    Raises:
        ValueError, FhirError: it cannot be opened.
    """
    if settings.auth == "none":
        return
    registrations, store = open_registrations(settings, now)
    try:
        is_empty = not registrations.list(Client) and not registrations.list(Gateway)
    finally:
        store.close()
    if is_empty and not settings.issuer.url:
        _log.warning(
            "a token is needed, and nobody is registered who could get one: "
            "fhir-server clients add --help. To try it on this machine without tokens: "
            "fhir-server serve --auth none"
        )


def _serve_alone(components: Components, bound: socket.socket) -> None:
    server = uvicorn.Server(_configuration(create_app(opened=components), components.settings))
    try:
        server.run(sockets=[bound])
    except SystemExit:
        # The reason is in the log; the server's own exit codes are not ours.
        raise typer.Exit(1) from None


def _serve_many(settings: Settings, workers: int, bound: socket.socket) -> None:
    # Read when the workers import what counts, so it is set before they are.
    with tempfile.TemporaryDirectory(prefix="fhir-server-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        configuration = _configuration("fhir_server.app:create_app", settings, workers)
        Multiprocess(configuration, sockets=[bound]).run()


def _for_many(settings: Settings) -> Settings:
    """Settings that several processes can share.

    Raises:
        ValueError: they cannot share a store that is in memory.
    """
    if settings.store.startswith("sqlite:") and sqlite_path(settings.store) is None:
        raise ValueError("a store in memory belongs to one process: use --workers 1")
    if not settings.page_key:
        # The next page is asked of whichever process comes first.
        os.environ["FHIR_SERVER_PAGE_KEY"] = secrets.token_urlsafe(32)
    return start_up.read_settings()


def _configuration(app: Any, settings: Settings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        # A URL can name a patient: rest/request_id.py writes the lines instead.
        access_log=False,
        log_config=logs.configuration(settings),
        server_header=False,
        loop="fhir_server.cli.tls_loop:new_loop" if settings.tls_certificate else "auto",
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=None if settings.tls_client_ca is None else str(settings.tls_client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_REQUIRED,
        http=Connection,
        proxy_headers=False,
        # What a websocket's client has to say fits into a line.
        ws_max_size=64 * 1024,
        # Longer than proxies and client pools keep an idle connection: who lets go first
        # must not be the one that a request is on its way to.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
        # A machine that is loaded starts slowly: a worker that is killed meanwhile starts anew.
        timeout_worker_healthcheck=30,
    )
