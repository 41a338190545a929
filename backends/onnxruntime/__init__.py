"""ONNX Runtime: the target, its rewrites, its sessions and what they really run."""
