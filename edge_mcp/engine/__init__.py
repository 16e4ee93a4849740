"""The engine process that runs models, and the server's side of it."""
