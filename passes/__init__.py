"""Quantization passes, one file each."""
