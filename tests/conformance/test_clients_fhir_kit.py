"""fhir-kit-client (JavaScript), which nobody here wrote, unmodified.

`fhir_kit/package-lock.json` pins it and what it needs by version and digest; it is
installed once into a cache outside the tree. Without npm there is nothing to run it, which
is no reason to fail on a developer's machine, but one where a submission is checked.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fhir_kit"
CHECKS = [
    "capabilities", "crud", "conditions", "searchAndPages", "compartmentsAndReferences", "patch",
    "bundles", "history",
]  # fmt: skip


@pytest.fixture(scope="module")
def installed():
    """The folder with the client and what it needs, installed as the lock says."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing where it must be")
        pytest.skip("npm is not installed")
    lock = (FOLDER / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "fhir-server-tests" / f"fhir-kit-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(FOLDER / name, made)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=180)
            assert done.returncode == 0, done.stderr
            # Another run may have been first; theirs is the same.
            if not target.is_dir():
                made.rename(target)
    return target


def test_everything_its_users_do_works(installed, server, unique, tmp_path):
    # Beside the packages: that is where node looks for them.
    script = tmp_path / "client.mjs"
    shutil.copy(FOLDER / "client.mjs", script)
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    done = subprocess.run(
        ["node", str(script), server.fhir, unique], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == CHECKS
