"""What the commands about clients, accounts and gateways open, and how they fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fhir_server.app import now
from fhir_server.cli import start_up
from fhir_server.entrance import open_registrations
from fhir_server.security.registrations import Registrations

StoreOption = Annotated[
    str | None, typer.Option(help="The server's store, or FHIR_SERVER_STORE: theirs is beside it.")
]


@contextmanager
def registrations(store: str | None) -> Iterator[Registrations]:
    """What is registered with the server of the settings; a reason to stop is told in a line."""
    with start_up.told_in_one_line():
        given = {} if store is None else {"store": store}
        settings = start_up.read_settings(**given)
        found, opened = open_registrations(settings, now)
        try:
            yield found
        finally:
            opened.close()
