"""Finding which choice each node gets, so that what the user asked for holds: the pass ``auto``."""
