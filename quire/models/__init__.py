"""Families, one file each, named by the checkpoint's ``model_type``.

A file exports ``Model``, a CausalModel made of a Card, and ``tiny_config``, a small configuration for the contract
suite.
"""
