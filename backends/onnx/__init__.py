"""The portable target: standard ONNX only, for any runtime."""
