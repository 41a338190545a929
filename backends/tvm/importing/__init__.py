"""From an ONNX graph to a Relax module: one converter an operator, shapes kept symbolic."""
