"""Every converter against ONNX Runtime: small graphs of many nodes, each of which is an output.

Sizes named by letters are symbolic: batch and length are known only when the model runs.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.backends.tvm.kernels.running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.tvm]

Array = npt.NDArray[Any]
GENERATOR = np.random.default_rng(0)
IMPORTS = 'opset_import: ["": 23, "com.microsoft": 1]'

FLOATS = {"x": GENERATOR.standard_normal((2, 5, 24)).astype(np.float32)}
IDS = {"i": np.array([[3, 1, 0, 7], [2, 2, 9, 4]])}

ELEMENTWISE = """
    a = Add(x, half)  b = Sub(x, half)  c = Mul(x, x)  d = Div(x, two)  e = Max(x, half)  f = Min(x, half, two)
    g = Relu(x)  h = Sigmoid(x)  i = Tanh(x)  j = Exp(x)  k = Abs(x)  l = Sqrt(k)  m = Neg(x)  n = Erf(x)  o = Sin(x)
    p = Cos(x)  q = Floor(x)  r = Ceil(x)  s = Round(x)  t = Reciprocal(j)  u = Pow(j, half)  v = Clip(x, m1, half)
    w = LeakyRelu<alpha = 0.1>(x)  z = Gelu(x)  aa = Gelu<approximate = "tanh">(x)  ab = HardSwish(x)
    ac = HardSigmoid(x)  ad = Elu(x)  ae = Softplus(x)  af = Sign(x)  ag = Sum(x, x, half)  ah = Mean(x, half)
    ai = Log(j)  aj = Less(x, half)  ak = Where(aj, x, two)  al = Cast<to = 6>(two)  am = And(aj, aj)  an = Not(aj)
    ao = PRelu(x, two)  ap = Identity(x)  aq = Xor(aj, an)  ar = GreaterOrEqual(x, half)  au = Pow(x, two)
"""
MOVEMENT = """
    a = Transpose<perm = [0, 2, 1]>(x)  b = Reshape(x, view)  c = Unsqueeze(x, one)
    d = Squeeze(c, one)
    e = Concat<axis = 1>(x, x)  f = Slice(x, ones, threes, ones)  g = Slice(x, last, end, ones)
    h = Flatten<axis = 2>(x)
    i, j = Split<axis = 2, num_outputs = 2>(x)
    k, l = Split<axis = 2>(x, parts)  m = Expand(x, wide)  n = Tile(x, tiles)
    o = Pad(x, pads, half)  s = Shape(x)  n1 = Gather(s, one)  r0 = Reshape(x, minus)  p = Gather<axis = 2>(x, picks)
    z0 = Squeeze(n1)  q = Range(zero, z0, step)
    t = ConstantOfShape<value = float[1] {2.5}>(s)  u = GatherElements<axis = 2>(x, some)
    v = Trilu<upper = 0>(x)  w = Slice(x, back, end, ones)  y = Reshape(x, keep)
    wa = Slice(x, none, far, none)  wb = Slice(x, none, far, ones)
"""
REDUCTIONS = """
    a = ReduceMean(x, last)  b = ReduceSum<keepdims = 0>(x, last)  c = ReduceMax(x, one)  d = ReduceMin(x)
    e = ReduceL2(x, last)  f = ReduceSumSquare(x, last)  g = ArgMax<axis = 2>(x)  h = ArgMin<axis = 1, keepdims = 0>(x)
    i = Softmax<axis = 2>(x)  j = Softmax<axis = 1>(x)  k = LogSoftmax<axis = 2>(x)
    l = LayerNormalization(x, gamma, beta)
    m = RMSNormalization(x, gamma)  n = LayerNormalization<axis = 2, epsilon = 0.1>(x, gamma)  o = ReduceL1(x, last)
    p = CumSum(x, axis1)  q = InstanceNormalization(x3, g3, b3)
"""
PRODUCTS = """
    a = MatMul(x, w)  xt = Transpose<perm = [0, 2, 1]>(x)  b = MatMul(x, xt)  r = Reshape(x, minus)
    c = Gemm<transB = 1, alpha = 0.5>(r, wt, row)  d = Gemm(r, w, row)
    e = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 0.01>(x, x, gamma)
    f = com.microsoft.SkipLayerNormalization<epsilon = 0.01>(x, x, gamma, gamma)
    h = Attention<q_num_heads = 3, kv_num_heads = 3>(x, x, x)
    j = Attention<q_num_heads = 3, kv_num_heads = 3, is_causal = 1>(x, x, x)
    k = QuantizeLinear(x, scale, zero)  l = DequantizeLinear(k, scale, zero)  m, m1, m2 = DynamicQuantizeLinear(x)
    o = Mod(ids, three)  p = Div(ids, three)
"""
IMAGES = """
    a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)
    b1 = Conv<kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)
    c = Conv<kernel_shape = [3, 3], group = 4>(x, dw)  d = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
    e = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(x)  f = GlobalAveragePool(x)  g = GlobalMaxPool(x)
    h = DepthToSpace<blocksize = 2>(x)
"""


def constant(name: str) -> Array | None:
    known: dict[str, Any] = {
        "half": np.float32(0.5), "two": np.float32(2), "m1": np.float32(-1), "view": [0, 5, 4, 6], "one": [1],
        "ones": [1], "threes": [3], "last": [-1], "end": [2**62], "parts": [8, 16], "wide": [2, 5, 24],
        "tiles": [1, 2, 1], "pads": [0, 0, 1, 0, 0, 2], "minus": [-1, 24], "picks": [0, 23, 5], "zero64": 0,
        "step": 1, "back": [-2],
        "none": [0], "far": [10**9], "keep": [0, -1, 4, 6], "axis1": np.int64(1), "three": 3, "zero": 0,
    }  # fmt: skip
    if name in known:
        found = np.asarray(known[name])
        return found if found.dtype == np.float32 else found.astype(np.int64)
    shapes = {
        "gamma": (24,),
        "beta": (24,),
        "g3": (5,),
        "b3": (5,),
        "w": (24, 16),
        "wt": (16, 24),
        "row": (16,),
    }
    if name in shapes:
        return np.random.default_rng(len(name)).standard_normal(shapes[name]).astype(np.float32)
    return {"some": np.random.default_rng(1).integers(0, 24, (2, 5, 3))}.get(name)


def model(inputs: str, body: str, extra: dict[str, Array] | None = None) -> onnx.ModelProto:
    """A graph of which every value of ``body`` is an output."""
    made = re.findall(r"(\w+(?:, \w+)*) = [\w.]+(?:<[^>]*>)?\(", body)
    names = [name.strip() for group in made for name in group.split(",")]
    text = (
        f"<ir_version: 10, {IMPORTS}> g ({inputs}) => ({', '.join(f'float {n}' for n in names)}) {{ {body} }}"
    )
    found = onnx.parser.parse_model(text)
    for output in found.graph.output:
        output.type.Clear()
    read = {name for node in found.graph.node for name in node.input}
    for name in sorted(read - set(names)):
        array = (extra or {}).get(name, constant(name))
        if array is not None:
            found.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return onnx.shape_inference.infer_shapes(found)


def check(proto: onnx.ModelProto, feeds: dict[str, Array]) -> None:
    """Compile for plain x86 and compare every output."""
    import onnx_ir as ir
    import onnxruntime
    import tvm
    from tvm_ffi import convert, from_dlpack

    from qcompiler.backends.tvm.compile_kernel import aligned, target_config
    from qcompiler.backends.tvm.compile_model import compile_model
    from qcompiler.backends.tvm.cpu_features import Variant

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds)
    loaded = ir.from_proto(proto)
    imported, executable = compile_model(loaded, Variant.PLAIN, target_config(Variant.PLAIN))
    machine = tvm.relax.VirtualMachine(executable, tvm.cpu())
    parameters = convert([from_dlpack(aligned(tensor.numpy())) for tensor in imported.parameters])
    arguments = [from_dlpack(aligned(feeds[str(value.name)])) for value in loaded.graph.inputs]
    found = machine["main"](*arguments, parameters)
    for value, wanted, tensor in zip(loaded.graph.outputs, expected, found, strict=True):
        array = np.from_dlpack(tensor)
        assert array.shape == wanted.shape, value.name
        assert array.dtype == wanted.dtype, value.name
        # Polynomials of exp, tanh and erf are within 3e-7; sums of 24 products in another order.
        np.testing.assert_allclose(array, wanted, rtol=2e-5, atol=2e-5, err_msg=str(value.name))


@pytest.mark.parametrize("body", [ELEMENTWISE, REDUCTIONS], ids=["elementwise", "reductions"])
def test_float_operators(body: str) -> None:
    extra = {} if body is ELEMENTWISE else {"x3": FLOATS["x"]}
    proto = model("float[B, S, 24] x", body, extra)
    check(proto, FLOATS)


def test_movement() -> None:
    check(model("float[B, S, 24] x", MOVEMENT), FLOATS)


def test_products() -> None:
    extra = {"scale": np.float32(0.05), "zero": np.uint8(100)}
    proto = model(
        "float[B, S, 24] x, int64[N, T] ids", PRODUCTS, {k: np.asarray(v) for k, v in extra.items()}
    )
    check(proto, {**FLOATS, "ids": IDS["i"]})


def test_images() -> None:
    generator = np.random.default_rng(2)
    extra = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in {"w": (8, 4, 3, 3), "b": (8,), "dw": (4, 1, 3, 3)}.items()
    }
    image = generator.standard_normal((2, 4, 9, 9)).astype(np.float32)
    check(model("float[B, 4, 9, 9] x", IMAGES, extra), {"x": image})


def test_gather_of_ids_and_of_the_last_position() -> None:
    table = np.random.default_rng(3).standard_normal((10, 24)).astype(np.float32)
    body = "a = Gather(table, i)  n = Gather<axis = 1>(a, last)  s = Shape(i)  r = Reshape(a, minus)"
    check(model("int64[B, S] i", body, {"table": table}), IDS)
