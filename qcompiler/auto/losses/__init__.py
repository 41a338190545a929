"""What each choice of each group loses: measured, or estimated by second order."""
