"""Shelf: one file an endpoint; each exports ``endpoints`` and ``examples`` (see quire/server/shelf.py)."""
