"""Keras files: containers, layouts of weights, configurations, and a function for each layer."""
