"""The pipeline language: what a pass is, how a user names one, and the table of those that exist."""
