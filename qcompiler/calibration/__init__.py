"""Calibration: statistics of a model's values over the user's data, in bounded memory."""
