"""`fhir-server deliver`: the outbox worker alone."""

import asyncio
import logging.config
import signal
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from fhir_server.app import open_components
from fhir_server.cli import logs, start_up

_stderr = Console(stderr=True)
_log = logging.getLogger("fhir_server.deliver")


def deliver(
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish what is under way on a stop.")
    ] = 15.0,
) -> None:
    """Deliver what was committed to adapters and subscribers; any number may run."""
    stopping = Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopping.set())
    with start_up.told_in_one_line():
        settings = start_up.read_settings(**({} if store is None else {"store": store}))
        logging.config.dictConfig(logs.configuration(settings))
        if warning := start_up.check_store_folder(settings.store):
            _log.warning(warning)
        components = open_components(settings)
        worker = components.worker()
    try:
        worker.start()
        stopping.wait()
        if not worker.stop(grace):
            _stderr.print("fhir-server: a delivery could not be ended; its lease will")
            raise typer.Exit(1)
    finally:
        asyncio.run(components.close())
