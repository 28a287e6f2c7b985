"""Engines: the shipped networks on the runtimes that run them."""
