"""Single operations: each file is a contract and its torch reference; kernels stand beside it.

Not here: modules with weights (layers/).
"""
