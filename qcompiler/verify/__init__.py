"""Proving what was compiled: numbers per node, numbers end to end, and time.

Nothing here imports a runtime before it is asked to run a model.
"""
