"""Whole stores: moved, written to files, read back, measured, and what happens to one that was restored.

Everything here stands on the methods of the contract (`core.ports.Store`) and asks no store what it is. Copies and
files go by what is *stored*: they need no keys, and what is sealed or packed stays so, byte for byte.
"""
