"""What is decided: groups of nodes, and the choices that each may take."""
