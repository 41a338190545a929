"""How a weight matrix is stored in few bits: pure NumPy, one file per family of formats."""
