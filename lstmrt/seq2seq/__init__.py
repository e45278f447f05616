"""Encoder-decoder models: their graph as two halves, and the loop that makes tokens with them."""
