"""Cameras, microphones and what stands in for them: named by the owner, read for tools and as resources."""
