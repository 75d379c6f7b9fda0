"""Shelf: what may be asked of a running engine. A file exports ``run(loop, *arguments) -> str``; its name is the
command's.
"""
