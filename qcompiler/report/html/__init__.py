"""The report as one HTML file: :mod:`collect` gathers its facts, :mod:`render` makes a page of them."""
