"""Forget every cached block that nobody holds; answers whether nothing was held, so that the cache is empty now."""

from __future__ import annotations

from quire.engine.loop import EngineLoop


def run(loop: EngineLoop) -> str:
    """``true`` when the whole cache was dropped, ``false`` when running sequences keep a part of it."""
    return "true" if loop.scheduler.reset_prefix_cache() else "false"
