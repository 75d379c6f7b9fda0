"""Text in front of the engine: tokens, templates, stop strings, the check of a request, streams of outputs.

Not here: scheduling and anything that computes; the engine speaks token ids only.
"""
