"""Ways to quantise weights when they are loaded, one a file, named as ``--quantization`` names it.

A file exports ``SCHEME``. It imports no torch: the control stack reads it to count memory.
"""
