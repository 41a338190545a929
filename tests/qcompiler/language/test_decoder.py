"""However the cache is kept, step after step gives what the whole text gives at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.language import decoder as decoder_module
from qcompiler.language.decoder import Decoder
from tests.qcompiler.language.tiny import VOCABULARY, Kind, save_tiny

KINDS: dict[Kind, str] = {"grouped": "in place", "concatenated": "rebound", "none": "none"}
ROUNDING = 1e-5
"""Logits are of the order of 1; sums in another order differ by a few float32 roundings."""


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def tiny(kind: Kind, tmp_path: Path) -> Decoder:
    return Decoder(save_tiny(tmp_path / "model.onnx", kind))


def tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, VOCABULARY, shape)


def test_cache_is_kept_as_the_graph_allows(tiny: Decoder, kind: Kind) -> None:
    assert tiny.cache == KINDS[kind]


@pytest.mark.parametrize("pieces", [(12,), (5, 1, 1, 1, 1, 3), (1,) * 12])
def test_steps_equal_the_whole_text(tiny: Decoder, pieces: tuple[int, ...]) -> None:
    ids = tokens(1, 12)
    whole, text, done = tiny.logits(ids), tiny.start(12), 0
    for length in pieces:
        found = text.extend(ids[:, done : done + length])
        done += length
        np.testing.assert_allclose(found, whole[:, done - 1], atol=ROUNDING)


def test_a_long_prompt_in_pieces_equals_one_run(tiny: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokens(1, 23)
    expected = tiny.logits(ids)[:, -1]
    monkeypatch.setattr(decoder_module, "PREFILL_TOKENS", 5)
    np.testing.assert_allclose(tiny.start(30).extend(ids), expected, atol=ROUNDING)


def test_texts_do_not_disturb_each_other(tiny: Decoder) -> None:
    first, second = tokens(2, 1, 9)
    one, other = tiny.start(9), tiny.start(20)
    for position in range(8):
        one.extend(first[:, position : position + 1])
        other.extend(second[:, position : position + 1])
    np.testing.assert_allclose(one.extend(first[:, 8:]), tiny.logits(first)[:, -1], atol=ROUNDING)


def test_what_follows_a_position_does_not_change_it(tiny: Decoder) -> None:
    ids = tokens(1, 12)
    other = ids.copy()
    other[:, 7:] = 3
    np.testing.assert_array_equal(tiny.logits(ids)[:, :7], tiny.logits(other)[:, :7])


def test_shared_buffers_are_never_replaced(tmp_path: Path) -> None:
    """In place means so: the runtime writes to the memory that was bound first."""
    tiny = Decoder(save_tiny(tmp_path / "model.onnx", "grouped"))
    text = tiny.start(10)
    text.extend(tokens(1, 4))
    buffers = [buffer.data_ptr() for buffer in text._cache._buffers]  # type: ignore[attr-defined]
    text.extend(tokens(1, 1))
    presents = [value.data_ptr() for value in text._binding.get_outputs()[1:]]  # type: ignore[attr-defined]
    assert presents == buffers


def quantize_cache(path: Path, scale: float) -> None:
    """Let GroupQueryAttention keep keys and values in int8."""
    model = ir.load(path)
    node = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    node.resize_inputs(14)
    for index, name in ((12, "k_scale"), (13, "v_scale")):
        value = ir.Value(name=name, const_value=ir.tensor(np.array([scale], np.float32), name=name))
        model.graph.register_initializer(value)
        node.replace_input_with(index, value)
        node.attributes[f"{name[0]}_quant_type"] = ir.AttrString(f"{name[0]}_quant_type", "PER_TENSOR")
    node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", 8)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if ".0." in str(value.name):
            value.dtype = ir.DataType.INT8
    ir.save(model, path)


def test_a_cache_in_int8_is_kept_in_int8(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "model.onnx", "grouped")
    ids = tokens(1, 12)
    exact = Decoder(path).logits(ids)
    quantize_cache(path, scale=0.02)
    tiny = Decoder(path)
    assert (tiny.cache, {slot.kind for slot in tiny.signature.slots}) == ("in place", {"tensor(int8)"})
    whole, text = tiny.logits(ids), tiny.start(12)
    steps = [text.extend(ids[:, position : position + 1])[0] for position in range(12)]
    np.testing.assert_allclose(steps, whole[0], atol=ROUNDING)
    assert 0 < np.abs(whole - exact).max() < 0.2  # a scale of 0.02 on values up to 2: a percent


def test_a_past_that_something_else_reads_is_not_shared(tmp_path: Path) -> None:
    """Its length would be read from the buffer's capacity."""
    path = save_tiny(tmp_path / "model.onnx", "grouped")
    model = ir.load(path)
    past = next(value for value in model.graph.inputs if value.name == "past_key_values.0.key")
    node = ir.node("Shape", [past])
    node.outputs[0].name = "length_of_past"
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    node.outputs[0].dtype = ir.DataType.INT64
    ir.save(model, path)
    assert Decoder(path).cache == "rebound"


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y) { y = Neg (x) }'
    ir.save(ir.from_onnx_text(text), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="expected an input 'input_ids' and an output 'logits'"):
        Decoder(tmp_path / "model.onnx")


def test_an_input_that_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "model.onnx", "none")
    model = ir.load(path)
    model.graph.inputs.append(
        ir.Value(name="pixel_values", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["B", 3]))
    )
    ir.save(model, path)
    with pytest.raises(UnsupportedError, match="pixel_values"):
        Decoder(path)


def test_fixed_shapes_are_refused_for_generating(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "model.onnx", "none")
    model = ir.load(path)
    model.graph.inputs[0].shape = ir.Shape([1, 8])
    ir.save(model, path)
    tiny = Decoder(path)
    assert tiny.logits(tokens(1, 8)).shape == (1, 8, VOCABULARY)
    with pytest.raises(UnsupportedError, match="1 x 8"):
        tiny.logits(tokens(1, 9))
    with pytest.raises(UnsupportedError, match="fixed shape"):
        tiny.start(8)
