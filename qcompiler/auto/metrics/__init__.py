"""What a model is judged by: metrics that come with the compiler, and the user's own."""
