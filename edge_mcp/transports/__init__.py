"""Ways for a peer to exchange whole frames with the server."""
