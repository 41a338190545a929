"""Sequential mode: one segment of the graph after another is calibrated with what the quantized ones before it give."""
