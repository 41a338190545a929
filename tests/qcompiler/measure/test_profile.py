from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.measure.profile import Event, node_of_profile_name, own_times, profile_nodes, split_runs

Feed = dict[str, npt.NDArray[np.generic]]


def test_every_node_has_a_time_for_every_run(short_model: Path, feed: Feed) -> None:
    times = profile_nodes(short_model, feed, runs=4)
    assert list(times) == ["matmul_0", "tanh_0", "matmul_1", "tanh_1"]
    assert times["tanh_1"].op_type == "Tanh"
    assert all(len(time.runs_us) == 4 for time in times.values())
    assert times["matmul_0"].total_us == pytest.approx(4 * times["matmul_0"].mean_us)


def test_profile_leaves_no_file(
    short_model: Path, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile_nodes(short_model, feed, runs=1)
    assert list(tmp_path.iterdir()) == []


def event(name: str, op: str, start: int, duration: int) -> Event:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": duration,
        "args": {"op_name": op},
    }


def test_time_of_a_subgraph_is_not_counted_twice() -> None:
    """An If that holds an If: own times add up to the time of the outermost."""
    events = [
        event("before", "Add", 0, 10),
        event("sin", "Sin", 12, 5),
        event("cos", "Cos", 20, 4),
        event("inner", "If", 18, 9),
        event("outer", "If", 11, 20),
    ]
    assert own_times(events) == [10, 5, 4, 5, 6]


def test_runs_are_split_at_their_ends() -> None:
    end: Event = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 30, "args": {}}
    load: Event = {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9, "args": {}}
    add, incomplete = event("add", "Add", 1, 2), event("add", "Add", 90, 2)
    assert split_runs([load, add, end, add, add, end, incomplete]) == [[add], [add, add]]


@pytest.mark.parametrize(
    ("profile_name", "node"),
    [
        ("conv", "conv"),
        ("conv_token_12", "conv"),
        ("fc/MatMulAddFusion", "fc"),
        ("fc/MatMulAddFusion_token_6", "fc"),
        ("relu_out_nchwc", "relu"),
        ("gemm_input_reshape", None),
        ("own_token_3", "own_token_3"),
    ],
)
def test_names_of_the_runtime_lead_back_to_the_file(profile_name: str, node: str | None) -> None:
    names = {"conv", "fc", "relu", "own_token_3"}
    assert node_of_profile_name(profile_name, names, {"relu_out": "relu"}) == node
