"""Runs HL7's own validator (Java) over what this server makes, and tells the errors it finds.

    python tools/validate_official.py validator_cli.jar [--folder build/official]

In place of the jar a folder of jars may be named: tools/official-validator/pom.xml gets them.
The validator fetches HL7's packages at its first run and keeps them in ~/.fhir/packages.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from write_examples import definitions, everything, write

Json = dict[str, Any]

_FOLDER = Path(__file__).resolve().parent.parent / "build" / "official"
_MAIN = "org.hl7.fhir.validation.ValidatorCli"
_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport"
_MOST_SHOWN = 3

_KNOWN = {
    # The rule's text is about a time that has a value; its expression demands one.
    "vs-1": ("Constraint failed: vs-1", "Observation.effective"),
    # Another guide's, which is not loaded.
    "subscriptions": (f"URL value '{_BACKPORT}", "CapabilityStatement.rest"),
}
"""Errors that are not ours: a message and an element that begin so."""


class Told(NamedTuple):
    """One issue of the validator, and the file that it is about."""

    severity: str
    text: str
    element: str
    file: str

    @property
    def known(self) -> str | None:
        for name, (text, element) in _KNOWN.items():
            if self.text.startswith(text) and self.element.startswith(element):
                return name
        return None


def command(jar: Path, folder: Path, output: Path) -> list[str]:
    start = ["-cp", f"{jar}/*", _MAIN] if jar.is_dir() else ["-jar", str(jar)]
    options = ["-version", "4.0.1", "-tx", "n/a", "-extension", _BACKPORT]
    given = ["-ig", str(folder / "definitions"), "-output", str(output)]
    return ["java", *start, str(folder / "examples"), *options, *given]


def read(output: Path) -> Iterator[Told]:
    found: Json = json.loads(output.read_text(encoding="utf-8"))
    outcomes = [entry["resource"] for entry in found.get("entry", ())] or [found]
    for outcome in outcomes:
        file = next(
            (e["valueString"] for e in outcome.get("extension", ()) if "file" in e["url"]), "?"
        )
        for issue in outcome["issue"]:
            text = issue.get("details", {}).get("text") or issue.get("diagnostics", "")
            element = next(iter(issue.get("expression", ())), "")
            yield Told(issue["severity"], text, element, Path(file).name)


def show(found: Sequence[Told]) -> None:
    by_text: dict[str, list[Told]] = {}
    for told in found:
        by_text.setdefault(told.text, []).append(told)
    for text, several in by_text.items():
        print(f"{len(several)} times: {text}")
        for told in several[:_MOST_SHOWN]:
            print(f"    {told.file}  {told.element}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jar", type=Path, help="validator_cli.jar, or a folder of jars")
    parser.add_argument("--folder", type=Path, default=_FOLDER)
    arguments = parser.parse_args()
    if not arguments.jar.exists():
        print("JAR=… must name HL7's validator_cli.jar, or a folder of jars", file=sys.stderr)
        return 2
    folder: Path = arguments.folder
    write(folder / "definitions", definitions())
    written = write(folder / "examples", everything())
    print(", ".join(f"{number} {name}" for name, number in sorted(written.items())))
    output = folder / "issues.json"
    output.unlink(missing_ok=True)
    ran = subprocess.run(
        command(arguments.jar, folder, output), stdout=subprocess.PIPE, text=True, check=False
    )
    if not output.is_file():
        print(ran.stdout, file=sys.stderr)
        return 1
    told = list(read(output))
    errors = [each for each in told if each.severity in ("error", "fatal")]
    ours = [each for each in errors if each.known is None]
    show(ours)
    warnings = sum(each.severity == "warning" for each in told)
    print(
        f"{written.total()} resources: {len(ours)} errors, {len(errors) - len(ours)} known ones "
        f"that are not ours, {warnings} warnings (all in {output})"
    )
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())
