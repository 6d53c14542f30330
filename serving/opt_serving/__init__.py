"""Serving: the engine and the OpenAI-compatible server."""
