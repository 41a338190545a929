"""Exporters, and the two small trained models that the demo and the tests use."""
