"""Models on disk: manifests and the store that finds them."""
