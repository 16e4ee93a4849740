"""edge-mcp: quantized ONNX and LiteRT models as MCP tools, for a Raspberry Pi or an IoT gateway."""

__version__ = "0.1.0"
__all__ = ["Audio", "Context", "EmbeddedResource", "Image", "PromptMessage", "ResourceLink", "Server", "__version__"]


def __getattr__(name: str) -> object:
    """The Python API, loaded on first use: the command line and the engine do without it. `__init__.pyi` has its types."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("edge_mcp.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
