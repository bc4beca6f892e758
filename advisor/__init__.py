"""Which draft model should I use: measured advice for speculative decoding with llama.cpp."""
