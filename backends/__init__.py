"""Targets: what each runtime executes, and how the dialect is lowered to it."""
