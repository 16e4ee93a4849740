"""How output tensors become a tool's result, one module per decoder."""
