"""Ask whether a hole is known in what we depend on; say so where nobody could be asked.

Ends with 1 for a known hole only: a machine without a network can still run `make check`.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCKED = Path(__file__).parents[1] / "requirements" / "run.txt"
SECONDS = 120
COMMAND = (
    "-m", "pip_audit", "--requirement", str(LOCKED), "--require-hashes", "--disable-pip",
    "--format", "json", "--progress-spinner", "off", "--timeout", "10",
)  # fmt: skip


def main() -> int:
    """The exit code."""
    try:
        run = subprocess.run(
            (sys.executable, *COMMAND), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return not_asked(f"no answer within {SECONDS} s")
    try:
        packages = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = run.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return not_asked(last[0][:200])
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return not_asked("nothing of what we depend on is known there")
    print("\n".join(holes) or f"no hole is known in {len(packages) - len(skipped)} dependencies")
    if skipped:
        print(f"not known there: {', '.join(skipped)}")
    return 1 if holes else 0


def not_asked(why: str) -> int:
    """Nobody was asked, which is no finding; the reader has to know."""
    print(f"WARNING: the dependencies were NOT audited: {why}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
