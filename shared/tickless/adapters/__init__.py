"""Adapters: the ports of ``tickless.ports`` on AWS, on an exchange, in a folder and in memory.

Each module is ``<technology>_<port>``. Vendors' clients are passed in, so that only ``bootstrap`` decides which world is used, and vendors'
errors are translated into ``tickless.errors`` here: nothing else leaves an adapter.
"""
