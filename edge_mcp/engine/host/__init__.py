"""The engine process: decode input, run the model, encode the result. Imports neither asyncio nor aiohttp."""
