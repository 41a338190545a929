"""Target tvm-cuda."""
