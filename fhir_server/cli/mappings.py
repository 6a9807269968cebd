"""`fhir-server mappings`: find what is wrong with mapping files, try one on a payload."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from fhir_server.core import resource_json
from fhir_server.core.mapping.catalog import BrokenMapping, compile_mapping
from fhir_server.core.mapping.check import check as check_mapping
from fhir_server.core.mapping.check import format_expected, outcomes_json
from fhir_server.core.mapping.language import Language
from fhir_server.definitions import load, read_mapping_files, read_mapping_language
from fhir_server.errors import MalformedResource
from fhir_server.settings import Settings

app = typer.Typer(help="The mappings from device payloads to FHIR.", no_args_is_help=True)
_stderr = Console(stderr=True, soft_wrap=True)


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A mapping's folder, or a folder of mappings.")
    ] = None,
) -> None:
    """Every fault of the mapping files, their schemas and examples, as file:line: reason."""
    folders, language = _read()
    if path is not None:
        folders = (_folder(path),)
    found = read_mapping_files(folders)
    if not found:
        _fail(f"there is no mapping in {path}", 2)
    faults = [fault for files in found.values() for fault in check_mapping(files, language)]
    for fault in faults:
        typer.echo(str(fault))
    if faults:
        _fail(f"{len(faults)} faults in {len({f.path for f in faults})} files", 1)
    count = sum(len(files.examples) for files in found.values())
    typer.echo(f"{len(found)} mappings and {count} examples: no fault")


@app.command("try")
def try_(
    name: Annotated[str, typer.Argument(help="The mapping's name, or its folder.")],
    payload: Annotated[Path, typer.Argument(help="A file with one payload.", exists=True)],
    expected: Annotated[
        bool, typer.Option("--expected", help="As an example's .expected.json has it.")
    ] = False,
) -> None:
    """Print the FHIR that a payload becomes; nothing is stored."""
    folders, language = _read()
    if Path(name).is_dir():
        folders, name = (Path(name),), Path(name).resolve().name
    files = read_mapping_files(folders).get(name)
    if files is None:
        _fail(f"there is no mapping {name}", 2)
    mapping = compile_mapping(files, language)
    if isinstance(mapping, BrokenMapping):
        for fault in mapping.faults:
            typer.echo(str(fault))
        _fail(f"the mapping {name} has faults", 1)
    try:
        body = resource_json.parse(payload.read_bytes())
    except MalformedResource as error:
        _fail(f"{payload}: {error}", 1)
    issued = None if expected else datetime.now(UTC)  # noqa: TID251 - printed, never stored
    outcomes = outcomes_json(mapping, body, issued)
    typer.echo(format_expected(outcomes), nl=False)
    if not expected and _is_faulty(outcomes):
        raise typer.Exit(1)


def _read() -> tuple[tuple[Path, ...], Language]:
    try:
        settings = Settings()
        definitions = load(settings.mappings, settings.profiles, settings.terminology)
        language = read_mapping_language(definitions.terminology_folders, settings.time_zone)
    except ValueError as error:
        _fail(str(error), 2)
    return definitions.mapping_folders, language


def _folder(path: Path) -> Path:
    if path.is_file():
        path = path.parent
    if not path.is_dir():
        _fail(f"{path} is no folder", 2)
    return path.resolve()


def _is_faulty(outcomes: Any) -> bool:
    return any("fault" in part for part in (outcomes if isinstance(outcomes, list) else [outcomes]))


def _fail(reason: str, code: int) -> NoReturn:
    _stderr.print(f"fhir-server: {reason}", style="red", markup=False)
    raise typer.Exit(code)
