"""The benchmark drives a server that it knows by its URL alone: here our own."""

import json
import subprocess
import sys
from pathlib import Path

from bench import process
from bench.loads import LOADS

ROOT = Path(__file__).parents[2]


def bench(command, timeout):
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )


def test_another_server_gets_every_load_that_it_declares(tmp_path):
    output = tmp_path / "figures.json"
    with process.fhir_server(f"sqlite:///{tmp_path}/fhir.db", is_delivering=True) as server:
        command = [
            *(sys.executable, "-m", "bench", "--url", f"{server.url}/fhir"),
            *("--sizes", "3000", "--seconds", "0.05", "--connections", "1", "--burst", "20"),
            *("--output", output),
        ]
        ended = bench(command, timeout=200)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(output.read_bytes())
    standard = {load.name for load in LOADS if "/readings" not in load.needs}
    measured = {row["load"] for row in figures["rows"]}
    assert measured == standard | {"delivery: one at a time", "delivery: burst of 20"}
    (skipped,) = figures["skipped"]
    assert skipped["reason"] == "not declared: /readings"


def test_what_is_no_fhir_server_is_said(tmp_path):
    with process.bare_server() as server:
        command = [sys.executable, "-m", "bench", "--url", f"{server.url}/fhir"]
        ended = bench(command, timeout=60)
    assert ended.returncode == 1
    assert "metadata: 404" in ended.stderr
