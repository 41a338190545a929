"""Pure NumPy: arrays in, arrays out; no graph is known here."""
