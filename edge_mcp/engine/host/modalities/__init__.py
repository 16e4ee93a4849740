"""How a tool's arguments become tensors, one module per kind of input."""
