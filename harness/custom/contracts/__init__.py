"""Contracts: what a layer must keep besides values, one file each, found by `harness.discovery.find_contracts`.

A layer can give the right gradient once and still be useless in a network: it may change what it was given, hand out
arrays that it goes on using, or remember the pass before. A module here with a tuple `CONTRACTS` is one more to keep.
"""
