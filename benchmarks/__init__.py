"""Comparisons with other quantizers; each script says the command that reruns it."""
