"""Mutations: a layer class or a network goes in, the same with one planted fault comes out, to see what a judge finds."""
