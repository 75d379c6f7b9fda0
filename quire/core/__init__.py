"""Nouns that cross walls: frozen records that every layer may hold.

Not here: behaviour. Nothing in this package imports another package of Quire but ``quire.errors``, and never torch.
"""
