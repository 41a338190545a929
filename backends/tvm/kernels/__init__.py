"""Kernel generators: one idea a file, each a pure function from a frozen description to a PrimFunc.

The programs are explicit vectors, built statement by statement: what a generator emits is what runs, apart from
register allocation.  TVM's own schedules are not used for them.
"""
