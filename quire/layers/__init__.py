"""Blocks that model families are built of, and the batch they compute on.

Not here: whole models (models/), attention implementations (attention/), single operations (ops/).
"""
