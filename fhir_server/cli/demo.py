"""`fhir-server demo`: the main job from end to end, on a fresh store, with real payloads."""

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import requests
import typer
from rich.console import Console

from fhir_server.app import open_components
from fhir_server.cli import demo_documents, demo_insurer, demo_summary
from fhir_server.cli.demo_processes import Children, DemoError, free_port, is_port_free
from fhir_server.cli.demo_summary import Happened, reading_identifier
from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.r4_files import shipped_folder
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState, Outbox

_HOST = "127.0.0.1"
_FOLDER = Path("data/demo")
_REGISTRY = "national-registry"
_ENROLMENTS = "device-kit"
_READINGS = ("ihealth", "iot-hub")
_START_SECONDS = 60.0
_DELIVERY_SECONDS = 60.0
_TYPES = (
    "Patient",
    "Device",
    "DeviceUseStatement",
    "CarePlan",
    "Goal",
    "Observation",
    "DetectedIssue",
    "Task",
)
_REGISTRY = "national-registry"
_SEARCHES = {"Task": "Task?code=quarantined-reading"}

_console = Console()
_stderr = Console(stderr=True)


# An account of the vendor's cloud holds one patient's devices and its payloads name none:
# the phone that fetched them knows which device each list is from.
_DEVICE_SYSTEM = "https://pmp.example/fhir/NamingSystem/device-serial"
_GATEWAY_KNOWS = {
    "BPDataList": "IH-BP7-0001",
    "BODataList": "IH-PO3-0001",
    "WeightDataList": "IH-HS4-0001",
    "BGDataList": "IH-BG5-0002",
}


class Example(NamedTuple):
    """A payload that ships with a mapping, and what must become of it.

    `readings` are the identifiers of the measurements in it, as the example has them; two
    payloads may hold the same one.
    """

    mapping: str
    case: str
    payload: bytes
    parameters: dict[str, str]
    readings: tuple[str, ...] = ()
    ignored: int = 0
    held_back: int = 0


def demo(
    port: Annotated[int, typer.Option(envvar="PORT", min=1, max=65535)] = 8080,
    once: Annotated[
        bool, typer.Option(envvar="ONCE", help="Stop after the summary; 1 if anything is missing.")
    ] = False,
) -> None:
    """Show the whole way of a reading: devices, FHIR, a national registry, an insurer."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not is_port_free(port):
        # Before the folder is made fresh: it may be that of a demo which has the port.
        _stderr.print(f"fhir-server: port {port} is taken: choose another with PORT=…")
        raise typer.Exit(1)
    folder = _fresh_folder(once)
    faults: Sequence[str] = ("it was stopped",)
    try:
        with Children(folder) as children:
            faults = _run(folder, children, port)
            if not once:
                _console.print(
                    f"What was kept, and what each process said, is in {folder}. The ledger:\n"
                    f"  FHIR_SERVER_STORE={_store_url(folder)} fhir-server deliveries list\n"
                    "Serving until Ctrl-C.",
                    soft_wrap=True,
                    highlight=False,
                )
                children.wait()
    except DemoError as failed:
        _stderr.print(f"fhir-server: {failed}", style="red", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _console.print("Stopped.")
    if not once:
        raise typer.Exit(1 if faults else 0)
    if faults:
        _stderr.print(f"What each process said is in {folder}.", soft_wrap=True)
        raise typer.Exit(1)
    shutil.rmtree(folder)


def _fresh_folder(once: bool) -> Path:
    """Where the store, the registry's journal and the logs are, kept for a look.

    A check (`once`) has its own, so that it disturbs no demo and no other check.
    """
    if once:
        return Path(tempfile.mkdtemp(prefix="fhir-demo-"))
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    return _FOLDER


def _store_url(folder: Path) -> str:
    return f"sqlite:///{folder.absolute()}/fhir.db"


def _run(folder: Path, children: Children, port: int) -> Sequence[str]:
    """Everything up to the summary; what is missing."""
    store = _store_url(folder)
    server, registry = f"http://{_HOST}:{port}", f"http://{_HOST}:{free_port()}"
    insurer = f"http://{_HOST}:{free_port()}"
    _console.print("Starting a stand-in national registry, an insurer and the server …")
    signature = demo_documents.algorithm()
    _start(children, folder, store, (server, registry, insurer), signature)
    demo_documents.add_physician(server)

    enrolments, readings = _enrolments(), _readings()
    _console.print(f"Enrolling {len(enrolments)} patients with their devices …")
    for example in enrolments:
        _post(f"{server}/enrolments/{example.mapping}", example)
    agreed = demo_insurer.insure(f"{server}/fhir")
    _console.print(f"All are insured, {agreed} agree that the insurer gets aggregates …")
    _console.print(f"Sending {len(readings)} real payloads of {' and '.join(_READINGS)} …")
    first = [_post(f"{server}/readings/{e.mapping}", e) for e in readings]
    _console.print("Sending all of them again, as a phone does that heard no answer …")
    again = [_post(f"{server}/readings/{e.mapping}", e) for e in readings]
    _console.print("Waiting for the deliveries …")
    deliveries = _wait_for_deliveries(children, store, sum(map(_accepted, first)))
    registered = _register_documents(children, server, registry, signature, len(enrolments))
    with _outbox(store) as outbox:
        insured = demo_insurer.wait(children, outbox, f"{server}/fhir", insurer)

    happened = Happened(
        resources={each: _all(f"{server}/fhir/{_SEARCHES.get(each, each)}") for each in _TYPES},
        first=_verdicts(first),
        again=_verdicts(again),
        reasons=Counter(
            result.get("reason", "?")
            for answer in first
            for result in answer["results"]
            if result["verdict"] in ("quarantined", "conflict")
        ),
        deliveries=deliveries,
        at_registry=Counter(map(reading_identifier, _all(f"{registry}/fhir/Observation"))),
        urls={
            "every measurement, as FHIR": f"{server}/fhir/Observation?_sort=-date",
            "the patients": f"{server}/fhir/Patient",
            "what the server can do": f"{server}/fhir/metadata",
            "the API described": f"{server}/docs",
            "what the registry has": f"{registry}/fhir/Observation",
            "what the registry was sent": f"{registry}/requests",
            "the documents it has": f"{registry}/documents",
            "what the insurer was told": f"{insurer}/received",
            "who was given what, or was not": f"{server}/fhir/AuditEvent?agent-name=insurer",
        },
        documents=registered,
        signature=signature,
        insured=insured,
        faults=(),
    )
    happened = happened._replace(faults=tuple(_faults(happened, readings, first, again)))
    demo_summary.show(happened, _console)
    return happened.faults


def _register_documents(
    children: Children, server: str, registry: str, signature: str, plans: int
) -> Sequence[str]:
    """A referral of each plan and the protocol of one that is completed, if we can sign."""
    if not signature:
        return ()
    _console.print("Completing a care plan: its protocol is signed and registered …")
    demo_documents.complete_a_plan(server, _all(f"{server}/fhir/CarePlan"))
    return demo_documents.wait(children, registry, plans + 1)


def _start(
    children: Children, folder: Path, store: str, urls: tuple[str, str, str], signature: str
) -> None:
    """The registry, the insurer and the server; `urls` are theirs, the server's first."""
    server, registry, insurer = urls
    demo_insurer.start(children, insurer, _START_SECONDS)
    children.start(
        "registry",
        [
            *("-m", "adapters.national_registry.stand_in"),
            *("--port", registry.rpartition(":")[2]),
            *("--journal", str(folder / "registry.db")),
            *("--callback", f"{server}{demo_documents.CALLBACK}"),
        ],
        {},
    )
    adapters = {
        _REGISTRY: {"url": f"{registry}/fhir"},
        demo_insurer.SINK: demo_insurer.section(insurer),
    }
    if signature:
        adapters["document-registry"] = demo_documents.section(folder, registry, signature)
    children.start(
        "server",
        ["-m", "fhir_server", "serve", "--host", _HOST, "--port", server.rpartition(":")[2]],
        {
            "FHIR_SERVER_STORE": store,
            "FHIR_SERVER_AUTH": "none",
            "FHIR_SERVER_BASE_URL": f"{server}/fhir",
            "FHIR_SERVER_ADAPTERS": json.dumps(adapters),
            "FHIR_SERVER_ALLOW_PRIVATE_ENDPOINTS": "1",
        },
    )
    children.wait_for_answer(f"{registry}/counts", _START_SECONDS)
    children.wait_for_answer(f"{server}/health/ready", _START_SECONDS)


def _post(url: str, example: Example) -> Any:
    response = requests.post(
        url,
        params=example.parameters,
        data=example.payload,
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    if not response.ok:
        raise DemoError(f"{example.mapping}/{example.case}: {response.status_code} of {url}")
    return resource_json.parse(response.content)


def _wait_for_deliveries(children: Children, store: str, wanted: int) -> Counter[str]:
    with _outbox(store) as outbox:
        waiting = (DeliveryState.QUEUED, DeliveryState.SENT)

        def counts() -> Counter[str]:
            found = outbox.counts().items()
            return Counter({state.value: n for (sink, state), n in found if sink == _REGISTRY})

        def is_done() -> bool:
            found = counts()
            return found.total() >= wanted and not any(found[state.value] for state in waiting)

        deadline = time.monotonic() + _DELIVERY_SECONDS
        while not is_done() and time.monotonic() < deadline:
            children.check_alive()
            time.sleep(0.1)
        return counts()


def _faults(
    happened: Happened, sent: Sequence[Example], first: Sequence[Any], again: Sequence[Any]
) -> Iterator[str]:
    """What is not as it must be, in words."""
    for example, answer in zip(sent, first, strict=True):
        seen = (answer["accepted"] + answer["duplicate"], answer["ignored"], answer["quarantined"])
        wanted = (len(example.readings), example.ignored, example.held_back)
        if seen != wanted:
            yield (
                f"{example.mapping}/{example.case}: measurements, ignored and held back were "
                f"{seen}, not {wanted}"
            )
    accepted = len({reading for example in sent for reading in example.readings})
    if (seen_accepted := sum(map(_accepted, first))) != accepted:
        yield f"{seen_accepted} measurements were new, not {accepted}"
    stored = {reading_identifier(each) for each in happened.resources["Observation"]} - {""}
    if len(stored) != accepted:
        yield f"{len(stored)} measurements are there, not {accepted}"
    if repeated := sum(map(_accepted, again)):
        yield f"{repeated} measurements were stored again when they were sent again"
    held_back = sum(example.held_back for example in sent)
    if len(happened.resources["Task"]) != held_back:
        yield f"{len(happened.resources['Task'])} readings were held back, not {held_back}"
    for resource_type in _TYPES[:-1]:
        if not happened.resources[resource_type]:
            yield f"there is no {resource_type}"
    if happened.deliveries != Counter({DeliveryState.ACCEPTED.value: len(stored)}):
        yield f"of {len(stored)} deliveries, {happened.deliveries['accepted']} were accepted"
    if happened.at_registry != Counter(stored):
        yield "the registry does not have each measurement exactly once"
    documents = len(happened.resources["CarePlan"]) + 1 if happened.signature else 0
    if len(happened.documents) != documents:
        yield f"{len(happened.documents)} documents were registered, not {documents}"
    yield from demo_insurer.faults(happened.insured)


def _enrolments() -> list[Example]:
    return [
        Example(_ENROLMENTS, case, payload, {}) for case, payload, _ in _example_files(_ENROLMENTS)
    ]


def _readings() -> list[Example]:
    found = []
    for mapping in _READINGS:
        for case, payload, expected in _example_files(mapping):
            readings = tuple(
                reading_identifier(each["resource"]) for each in expected if "resource" in each
            )
            ignored = sum("ignored" in each for each in expected)
            held_back = sum("fault" in each for each in expected)
            found.append(
                Example(mapping, case, payload, _gateway(payload), readings, ignored, held_back)
            )
    return found


def _gateway(payload: bytes) -> dict[str, str]:
    for name, serial in _GATEWAY_KNOWS.items():
        if name in resource_json.parse(payload):
            return {"device": f"{_DEVICE_SYSTEM}|{serial}"}
    return {}


def _example_files(mapping: str) -> Iterator[tuple[str, bytes, Any]]:
    """Case, payload, and what `mappings check` proves that it becomes."""
    folder = shipped_folder("mappings") / mapping / "examples"
    paths = sorted(folder.glob("*.payload.json"))
    if not paths:
        raise DemoError(f"there are no examples in {folder}")
    for path in paths:
        case = path.name.removesuffix(".payload.json")
        expected = resource_json.parse((folder / f"{case}.expected.json").read_bytes())
        yield case, path.read_bytes(), expected


def _accepted(answer: Any) -> int:
    return int(answer["accepted"])


def _verdicts(answers_of: Sequence[Any]) -> Counter[str]:
    return Counter(result["verdict"] for answer in answers_of for result in answer["results"])


def _all(url: str) -> list[Resource]:
    response = requests.get(url, params={"_count": "1000"}, timeout=30)
    if not response.ok:
        raise DemoError(f"{response.status_code} of {url}")
    bundle = resource_json.parse_resource(response.content)
    return [entry["resource"] for entry in bundle.get("entry", [])]


@contextmanager
def _outbox(store: str) -> Iterator[Outbox]:
    components = open_components(Settings(store=store))
    try:
        yield components.store.outbox
    finally:
        asyncio.run(components.store.close())
