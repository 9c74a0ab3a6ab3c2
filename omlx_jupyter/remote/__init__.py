"""Engines that live elsewhere: our own server on this machine, and servers that speak OpenAI's shapes."""
