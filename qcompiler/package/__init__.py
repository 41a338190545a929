"""Writing the result: the model, its data, its manifest; all or nothing."""
