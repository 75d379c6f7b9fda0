"""Attention backends over paged KV, one file each; the contract is layers/batch.py's AttentionBackend.

Not here: projections and rotation (layers/attention.py).
"""
