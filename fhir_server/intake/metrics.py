"""What a listener counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

connected = Gauge(
    "fhir_server_mqtt_connected",
    "Whether the broker is connected (1) or not (0).",
    multiprocess_mode="livesum",
)
connections = Counter("fhir_server_mqtt_connections", "Times that the broker was connected.")
messages = Counter(
    "fhir_server_mqtt_messages",
    "Messages: received, acknowledged, unacknowledged (decided, but the connection they came by"
    " was gone), held-back (could not be decided), dropped (QoS 0, too many at once).",
    ("state",),
)
for _state in ("received", "acknowledged", "unacknowledged", "held-back", "dropped"):
    # Zero is told from the start: what is not there cannot be watched.
    messages.labels(_state)
waiting = Gauge(
    "fhir_server_mqtt_waiting",
    "Messages that were received and are not decided yet.",
    multiprocess_mode="livesum",
)
batches = Histogram(
    "fhir_server_mqtt_batch_messages",
    "Messages that were decided together.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000),
)
retries = Counter(
    "fhir_server_mqtt_retries", "Times that a batch waited because the store was away."
)
