"""A command of `fhir-server` that ends by itself, run in the process of its test.

A process of its own takes a second and more of processor time to start; it is for what a
test kills, stops or talks to.
"""

import os
from collections.abc import Mapping

from typer.testing import CliRunner

from fhir_server.cli.main import app

Ended = tuple[int, str]
"""The exit code, and all that was said."""


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> Ended:
    """With these settings in its environment and no others."""
    inherited = {name: None for name in os.environ if name.startswith("FHIR_SERVER_")}
    told = {**inherited, **(environment or {})}
    done = CliRunner().invoke(app, [*map(str, arguments)], env=told)
    crashed = done.exception and not isinstance(done.exception, SystemExit)
    return done.exit_code, done.output + (repr(done.exception) if crashed else "")
