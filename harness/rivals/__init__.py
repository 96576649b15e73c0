"""The rivals: the ways in which people check a hand-written backward pass today, one module each."""
