"""What all passes of low-bit weights share: which nodes, which solver, in which words it is reported."""
