"""Shelf: how the engine reaches its workers. A file exports ``Executor`` (see quire.engine.executor)."""
