"""Byte-level Llama-style language model on the text of ``pydoc_data.topics``."""
