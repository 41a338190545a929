"""Measuring on this machine: latency, load time, resident memory, time per node.

Nothing here imports a runtime before it is asked to measure.
"""
