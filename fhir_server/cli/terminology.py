"""`fhir-server terminology`: code systems that are too big for one request.

A code system is stored as fragments of a thousand concepts and, last, the resource that says
how many there are: only then it counts as complete. Run again it goes on where it ended.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fhir_server.app import open_components
from fhir_server.cli import start_up
from fhir_server.cli.archive_file import read_lines
from fhir_server.cli.import_door import Door, ServerDoor, StoreDoor
from fhir_server.cli.import_resources import Portion
from fhir_server.cli.moving import progress_bar
from fhir_server.cli.start_up import StartUpError
from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import FhirError

_CONCEPTS = 1_000
_COLUMNS = ("concept", "id", "meta", "text")

app = typer.Typer(help="Code systems in bulk.", no_args_is_help=True)
_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)


@app.callback()
def _terminology() -> None:
    """Code systems in bulk."""


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="A CodeSystem (.json, .json.gz).", exists=True)],
    store: Annotated[
        str | None, typer.Option(help="Into this store, or FHIR_SERVER_STORE, with no server.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Into a running server: its URL without /fhir.")
    ] = None,
) -> None:
    """Store a code system of any size; run again, it goes on where it ended."""
    with start_up.told_in_one_line(), progress_bar(_stderr, "concepts") as progress:
        if store is not None and server is not None:
            raise ValueError("--store and --server: one of them")
        code_system = _read(file)
        total = sum(1 for _ in flatten(code_system))
        task = progress.add_task(file.name, total=total)
        with ExitStack() as stack:
            if server is not None:
                door: Door = stack.enter_context(ServerDoor(server))
            else:
                settings = start_up.read_settings(**({} if store is None else {"store": store}))
                door = stack.enter_context(StoreDoor(open_components(settings)))
            for resource in fragments(code_system, total):
                _send(door, resource)
                progress.update(task, advance=len(resource.get("concept", ())))
    _stdout.print(f"{code_system['url']}: {total:,} concepts")


def flatten(code_system: Resource) -> Iterator[Resource]:
    """The concepts one by one, what stood within another with that as its `parent`."""
    waiting: list[tuple[Any, str | None]] = [
        (each, None) for each in reversed(code_system.get("concept") or ())
    ]
    while waiting:
        concept, parent = waiting.pop()
        alone = {name: value for name, value in concept.items() if name != "concept"}
        if parent is not None:
            above = {"code": "parent", "valueCode": parent}
            if above not in alone.get("property", ()):
                alone["property"] = [*alone.get("property", ()), above]
        yield alone
        waiting += [(each, concept["code"]) for each in reversed(concept.get("concept") or ())]


def fragments(code_system: Resource, total: int) -> Iterator[Resource]:
    """What is stored: the fragments, and last the code system that counts them."""
    about = {name: value for name, value in code_system.items() if name not in _COLUMNS}
    named = f"{about['url']}|{about.get('version', '')}"
    name = f"cs-{sha256(named.encode()).hexdigest()[:32]}"
    concepts = flatten(code_system)
    number = 0
    while portion := list(islice(concepts, _CONCEPTS)):
        number += 1
        yield {**about, "id": f"{name}-{number}", "content": "fragment", "concept": portion}
    yield {**about, "id": name, "count": total}


def _read(file: Path) -> Resource:
    try:
        resource = resource_json.parse_resource(b"\n".join(line for line, _ in read_lines(file)))
    except FhirError as error:
        raise ValueError(f"{file}: {error}") from None
    if resource["resourceType"] != "CodeSystem" or not resource.get("url"):
        raise ValueError(f"{file} is no CodeSystem with a url")
    return resource


def _send(door: Door, resource: Resource) -> None:
    request = {"method": "PUT", "url": f"CodeSystem/{resource['id']}"}
    entry = {"resource": resource, "request": request}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    try:
        (answer,) = door.send(Portion(bundle, (str(resource["id"]),), 0))
    except FhirError as error:
        raise StartUpError(f"CodeSystem/{resource['id']}: {error}") from None
    if answer.effect == "failed":
        raise StartUpError(f"CodeSystem/{resource['id']}: {answer.reason}")
