"""4 bits a weight in groups of 128, each with a scale and a zero point; the head in 8 bits.

A quarter of bfloat16's bytes and a little.
"""

from __future__ import annotations

from quire.config.quantization import Form, Scheme

SCHEME = Scheme(projections=Form(4, 128, zero_points=True), head=Form(8), clippings=(1.0, 0.95, 0.9, 0.85))
