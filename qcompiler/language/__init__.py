"""Running compiled language models: a session with its cache, sampling, and perplexity."""
