"""Rules of the house that a reader relies on."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = [*(ROOT / "fhir_server").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]
MODULES = [path for path in CODE if "_data" not in path.parts]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_one_purpose_said_in_its_first_line_and_under_400_lines(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].rstrip().endswith((".", ":", ";", "?")) or "\n" in docstring
    assert text.count("\n") <= 400


def test_no_module_is_named_for_nothing() -> None:
    vague = re.compile(r"(utils?|helpers?|manager|common|base|service|misc)\.py$")
    assert [name_of(path) for path in MODULES if vague.search(path.name)] == []


def test_data_folders_hold_no_python() -> None:
    found = [p for f in ("mappings", "profiles", "terminology") for p in (ROOT / f).rglob("*.py")]
    assert found == []


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    from fhir_server.settings import CONFIG_VARIABLE, Settings

    documented = set(
        re.findall(r"`FHIR_SERVER_([A-Z_]+)`", (ROOT / "docs/settings.md").read_text("utf-8"))
    )
    existing = {name.upper() for name in Settings.model_fields}
    assert documented - {CONFIG_VARIABLE.removeprefix("FHIR_SERVER_")} == existing


def test_every_error_has_an_http_status() -> None:
    from fhir_server import errors
    from fhir_server.rest import error_handler

    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.FhirError)
    ]
    for error in classes:
        assert 400 <= error_handler.status_of(error) <= 599


def test_the_lock_names_no_host_and_pins_by_hash() -> None:
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text("utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text


def test_the_tests_of_a_clause_are_there() -> None:
    named = re.findall(r"`(rest|store)_([a-z0-9_]+)`", (ROOT / "docs/conformance.md").read_text())
    folders = {"rest": "conformance", "store": "contract"}
    paths = {f"tests/{folders[kind]}/test_{kind}_{name}.py" for kind, name in named}
    assert {path for path in paths if not (ROOT / path).is_file()} == {
        "tests/conformance/test_rest_x.py",
        "tests/contract/test_store_x.py",
    }


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text("utf-8")
    for path in folder.glob("0*.md"):
        assert path.name in index


def test_the_makefile_describes_its_targets() -> None:
    command = ["make", "-s", "help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "run", "test", "check", "bench"):
        assert f"make {target}" in text
