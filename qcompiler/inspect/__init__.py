"""What a model is made of, and what each pass and a target could do with it."""
