"""Packs the examples that R4 publishes into the archive which the round-trip tests read.

The package is npm's `hl7.fhir.r4.examples` 4.0.1 (CC0-1.0). `tests/r4_examples/README.md`
says what is left out and why.

    npm pack hl7.fhir.r4.examples@4.0.1
    python tools/pack_r4_examples.py hl7.fhir.r4.examples-4.0.1.tgz            writes it
    python tools/pack_r4_examples.py hl7.fhir.r4.examples-4.0.1.tgz --check    compares
"""

import argparse
import io
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "tests" / "r4_examples" / "examples.tar.xz"

# The definitions themselves are 4,500 files of which one is like the other.
_LEFT_OUT = frozenset(
    {
        "CodeSystem",
        "ConceptMap",
        "ImplementationGuide",
        "OperationDefinition",
        "SearchParameter",
        "StructureDefinition",
        "ValueSet",
    }
)
_LARGEST = 100_000


def examples(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of the package as they are, by name."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar, key=lambda member: member.name):
            folder, _, name = member.name.rpartition("/")
            if folder != "package" or not name.endswith(".json") or not name[:1].isupper():
                continue
            resource_type = name.removesuffix(".json").partition("-")[0]
            if resource_type in _LEFT_OUT or member.size > _LARGEST:
                continue
            if (file := tar.extractfile(member)) is not None:
                yield name, file.read()


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive that is the same whoever makes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="hl7.fhir.r4.examples-4.0.1.tgz")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    files = dict(examples(arguments.archive))
    if not arguments.check:
        TARGET.write_bytes(pack(files))
    elif not TARGET.is_file() or unpack(TARGET.read_bytes()) != files:
        print(f"{TARGET} is not what the package gives", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
