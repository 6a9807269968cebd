"""Writes each resource that the mappings' examples make as a file, for other validators.

python tools/write_examples.py FOLDER
"""

import argparse
import json
import sys
from pathlib import Path

MAPPINGS = Path(__file__).resolve().parent.parent / "mappings"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    written = 0
    for path in sorted(MAPPINGS.glob("*/examples/*.expected.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        case = path.name.removesuffix(".expected.json")
        for number, result in enumerate(results if isinstance(results, list) else ()):
            if resource := result.get("resource"):
                name = f"{path.parent.parent.name}-{case}-{number}.json"
                text = json.dumps(resource, ensure_ascii=False, indent=2)
                (folder / name).write_text(text, encoding="utf-8")
                written += 1
    print(f"{written} resources in {folder}")
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
