from edge_mcp.api import Audio as Audio
from edge_mcp.api import Context as Context
from edge_mcp.api import EmbeddedResource as EmbeddedResource
from edge_mcp.api import Image as Image
from edge_mcp.api import PromptMessage as PromptMessage
from edge_mcp.api import ResourceLink as ResourceLink
from edge_mcp.api import Server as Server

__version__: str
__all__ = ["Audio", "Context", "EmbeddedResource", "Image", "PromptMessage", "ResourceLink", "Server", "__version__"]
