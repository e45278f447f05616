"""From a graph to what runs it: which nodes run where, native programs, NumPy and onnxruntime beside them."""
