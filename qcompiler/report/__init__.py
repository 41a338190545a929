"""What the user sees: text for a terminal, or the same facts as JSON."""
