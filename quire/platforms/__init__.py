"""Kinds of hardware, one file each: what they can do, as data.

Not here: kernels and backends themselves.
"""
