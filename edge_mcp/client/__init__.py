"""The client side: call a server's tools from Python or from the command line."""
