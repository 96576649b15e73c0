"""Layers of anybody: a specification comes in, what every check of it found goes out."""
