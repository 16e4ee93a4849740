"""edge-mcp: quantized ONNX and LiteRT models as MCP tools, for a Raspberry Pi or an IoT gateway."""

__version__ = "0.1.0"
__all__ = ["__version__"]
