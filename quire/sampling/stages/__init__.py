"""Shelf: one change of logits a file. A file exports ``Stage`` (see quire.sampling.stage) and ``EXAMPLES``: rows that
it changes.

The order of the stages is decided by hand in quire.sampling.sampler.
"""
