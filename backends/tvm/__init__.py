"""Whole models as one native library, compiled by TVM from kernels that are generated here."""
