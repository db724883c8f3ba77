"""Generation: Ray actors with one in-process vLLM engine each."""
