"""Publishing all or nothing, and leaving no trace of a compile that failed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx_ir as ir
import pytest

from qcompiler.errors import OutputError
from qcompiler.models.catalog import DIGITS
from qcompiler.package.write import drop_traces, publish, staged, write_model


def fill(stage: Path, *names: str) -> None:
    for name in names:
        (stage / name).write_text(name)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_published_files_stay_and_the_stage_goes(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with staged(folder) as stage:
        fill(stage, "m.onnx", "m.manifest.json")
        assert stage.parent == folder  # the same file system, so that renaming is atomic
        publish(stage, folder)
    assert files(folder) == ["m.manifest.json", "m.onnx"]


def test_a_failure_removes_the_folders_it_made_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with contextlib.suppress(KeyboardInterrupt), staged(tmp_path / "mine" / "a" / "b") as stage:
        fill(stage, "m.onnx")
        raise KeyboardInterrupt
    assert files(tmp_path) == ["mine"]


def test_a_folder_that_others_wrote_into_meanwhile_stays(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), staged(tmp_path / "a" / "b"):
        (tmp_path / "a" / "theirs").write_text("")
        raise ValueError
    assert files(tmp_path) == ["a", "a/theirs"]


def test_the_model_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that finds the model finds its weights and manifest too."""
    order: list[str] = []
    replace = Path.replace

    def noting(path: Path, target: Path) -> Path:
        order.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noting)
    with staged(tmp_path) as stage:
        fill(stage, "m.onnx", "m.onnx.data", "m.manifest.json")
        publish(stage, tmp_path)
    assert order[-1] == "m.onnx"


def test_a_folder_in_the_way_of_one_file_stops_all(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with staged(tmp_path) as stage:
        fill(stage, "m.onnx", "m.manifest.json")
        with pytest.raises(OutputError, match=r"m\.onnx is a folder"):
            publish(stage, tmp_path)
    assert files(tmp_path) == ["m.onnx"]


def test_a_short_write_is_a_full_disk_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's tofile raises an OSError without an error number when the disk is full."""

    def short(*_: object, **__: object) -> None:
        raise OSError("32768 requested and 20480 written")

    monkeypatch.setattr("qcompiler.package.write.ir.save", short)
    with pytest.raises(OutputError, match=r"^m\.onnx cannot be written: no space left .* -o\.$"):
        write_model(ir.load(DIGITS.onnx), tmp_path / ".stage" / "m.onnx")


@pytest.mark.parametrize("external", [True, False])
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, *, external: bool) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_model(ir.load(DIGITS.onnx), tmp_path / name / "m.onnx", external=external)
    assert files(tmp_path / "a") == (["m.onnx", "m.onnx.data"] if external else ["m.onnx"])
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_no_moment_shows_a_graph_beside_the_weights_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_text("old")
    seen: list[dict[str, str]] = []
    move = Path.replace

    def watched(path: Path, target: Path) -> Path:
        seen.append({item.name: item.read_text() for item in tmp_path.iterdir() if item.is_file()})
        return move(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    with staged(tmp_path) as stage:
        for name in ("m.onnx", "m.onnx.data"):
            (stage / name).write_text("new")
        publish(stage, tmp_path)
    assert seen == [{"m.onnx.data": "old"}, {"m.onnx.data": "new"}]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"new"}


def test_weights_of_an_earlier_result_do_not_stay_beside_an_inline_one(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_text("old")
    with staged(tmp_path) as stage:
        fill(stage, "m.onnx")
        publish(stage, tmp_path)
    assert files(tmp_path) == ["m.onnx"]


def test_traces_of_the_exporter_are_dropped() -> None:
    model = ir.load(DIGITS.onnx)
    node = next(iter(model.graph))
    node.metadata_props["pkg.torch.onnx.stack_trace"] = "File ..."
    node.doc_string = "File ..."
    drop_traces(model)
    assert not node.metadata_props
    assert not node.doc_string
