"""What `/metrics` says, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from edge_mcp.load.governor import Load, State
from edge_mcp.load.monitor import Sample
from edge_mcp.load.signals import Memory
from edge_mcp.measurements import Links, Measurements
from edge_mcp.metrics import Snapshot, rendered


def snapshot(load: Load) -> Snapshot:
    measured = Measurements()
    measured.called(failed=False)
    measured.executed("cats", 4, 0.002, 0.01)
    for failed in (False, False, False, True):
        measured.settled("cats", failed)
    return Snapshot(
        links=Links(lambda: 3, lambda: 40, plain=1000, wire=250),
        versions={"cats": "1.0.0", 'odd "na\\me"\n': "2.0.0"},
        measured=measured,
        sample=Sample(0.0, load, ()),
        state=State.HOT,
        queued=3,
        running=2,
        lanes=4,
        loaded={"cats": 12.5},
        server_mb=26.0,
        engine_mb=None,
        connections=7,
    )


def values(load: Load) -> dict[tuple[str, str], float]:
    """(name, labels in order) -> value."""
    families = text_string_to_metric_families(rendered(snapshot(load)))
    # The parser gives counters the suffix that OpenMetrics wants; Triton's have none.
    return {
        (sample.name.removesuffix("_total"), ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_triton_s_names_are_kept_for_each_model() -> None:
    found = values(Load())
    cats = {name: value for (name, labels), value in found.items() if labels == "cats,1.0.0"}
    assert cats == {
        "nv_inference_request_success": 3,
        "nv_inference_request_failure": 1,
        "nv_inference_count": 4,
        "nv_inference_exec_count": 1,
        "nv_inference_queue_duration_us": 2000,
        "nv_inference_compute_infer_duration_us": 10_000,
    }
    assert found["nv_inference_pending_request_count", ""] == 3


def test_names_with_quotes_survive() -> None:
    assert ("nv_inference_count", 'odd "na\\me"\n,2.0.0') in values(Load())


def test_the_device_is_told_and_what_is_absent_is_left_out() -> None:
    found = values(Load(cpu=0.5, temperature_c=61.5, memory=Memory(512, 128)))
    assert found["edge_mcp_temperature_celsius", ""] == 61.5
    assert found["nv_cpu_memory_used_bytes", ""] == 384 * 2**20
    assert found["edge_mcp_load_state", "HOT"] == 1
    assert found["edge_mcp_load_state", "NOMINAL"] == 0
    assert found["edge_mcp_model_memory_bytes", "cats"] == 12.5 * 2**20
    assert ("edge_mcp_temperature_celsius", "") not in values(Load())
    assert ("edge_mcp_resident_memory_bytes", "engine") not in found
