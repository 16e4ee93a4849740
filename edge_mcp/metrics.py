"""What the server measures, in Prometheus' text format 0.0.4, under Triton's names where Triton has one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_mcp.load.governor import State
from edge_mcp.load.monitor import Sample
from edge_mcp.measurements import Links, Measurements

_COUNTERS = {
    "nv_inference_request_success": ("success", "Calls that were answered"),
    "nv_inference_request_failure": ("failure", "Calls that failed"),
    "nv_inference_count": ("inferences", "Items that were run"),
    "nv_inference_exec_count": ("executions", "Batches that were run"),
    "nv_inference_queue_duration_us": ("queue_us", "What calls waited, in all"),
    "nv_inference_compute_infer_duration_us": ("compute_us", "What the runtime took, in all"),
}

Labels = Mapping[str, str]
Values = Sequence[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to tell at one moment. Sizes are in units of 2^20 bytes; `loaded` is what each loaded model takes."""

    versions: Mapping[str, str]
    measured: Measurements
    sample: Sample
    state: State
    queued: int
    running: int
    lanes: int
    loaded: Mapping[str, float]
    server_mb: float | None
    engine_mb: float | None
    connections: int
    links: Links


def rendered(snapshot: Snapshot) -> str:
    """The page."""
    return "".join(f"{line}\n" for line in _lines(snapshot))


def _lines(now: Snapshot) -> Iterator[str]:
    for name, (attribute, about) in _COUNTERS.items():
        values = [
            ({"model": model, "version": version}, getattr(now.measured.models[model], attribute))
            for model, version in now.versions.items()
        ]
        yield from _metric(name, "counter", about, values)
    yield from _gauge("nv_inference_pending_request_count", "Calls that wait for a lane", now.queued)
    yield from _gauge("edge_mcp_batches_running", "Batches that run", now.running)
    yield from _gauge("edge_mcp_lanes", "Batches that may run at once now", now.lanes)
    calls = [({"outcome": "answered"}, now.measured.answered), ({"outcome": "failed"}, now.measured.failed)]
    yield from _metric("edge_mcp_calls_total", "counter", "Calls of tools of any kind", calls)
    states = [({"state": state.name}, int(now.state == state)) for state in State]
    yield from _metric("edge_mcp_load_state", "gauge", "The state of the device: 1 for the one that it is in", states)
    load = now.sample.load
    yield from _gauge("edge_mcp_temperature_celsius", "The processor's temperature", load.temperature_c)
    yield from _gauge("edge_mcp_event_loop_lag_seconds", "How late the event loop was", load.lag_s)
    yield from _gauge("nv_cpu_utilization", "Share of the processors' time that was used", load.cpu)
    if load.memory is not None:
        used = load.memory.total_mb - load.memory.available_mb
        yield from _gauge("nv_cpu_memory_total_bytes", "The device's memory", load.memory.total_mb * 2**20)
        yield from _gauge("nv_cpu_memory_used_bytes", "What of it is not available", used * 2**20)
    loaded = [({"model": model}, megabytes * 2**20) for model, megabytes in now.loaded.items()]
    yield from _metric("edge_mcp_model_memory_bytes", "gauge", "What each loaded model takes", loaded)
    processes = [
        ({"process": name}, megabytes * 2**20)
        for name, megabytes in (("server", now.server_mb), ("engine", now.engine_mb))
        if megabytes is not None
    ]
    yield from _metric("edge_mcp_resident_memory_bytes", "gauge", "What each process takes", processes)
    yield from _gauge("edge_mcp_connections", "Peers that are connected", now.connections)
    yield from _network(now.links)


def _network(links: Links) -> Iterator[str]:
    sockets = len(links.sockets)
    counted = [({"protocol": "http"}, links.count() - sockets), ({"protocol": "websocket"}, sockets)]
    yield from _metric("edge_mcp_network_connections", "gauge", "Connections to the network listener", counted)
    yield from _gauge("edge_mcp_websocket_held_bytes", "Messages and state of compression held for WebSockets", links.held)
    for name, value in (("message", links.plain), ("wire", links.wire)):
        about = f"Bytes of messages sent over WebSockets, {'before' if name == 'message' else 'after'} compression"
        yield from _metric(f"edge_mcp_websocket_sent_{name}_bytes_total", "counter", about, [({}, value)])


def _gauge(name: str, about: str, value: float | None) -> Iterator[str]:
    if value is not None:
        yield from _metric(name, "gauge", about, [({}, value)])


def _metric(name: str, kind: str, about: str, values: Values) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{inside}}} {value:.10g}" if inside else f"{name} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
