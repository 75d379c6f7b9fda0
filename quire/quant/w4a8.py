"""4 bits a weight in groups of 128 as ``int4``, and 8 bits an input of each product; the head in 8 bits by 8.

The bytes of ``int4``, and many rows at once at the speed of whole numbers.
"""

from __future__ import annotations

from quire.config.quantization import Form, Scheme

SCHEME = Scheme(
    projections=Form(4, 128, zero_points=True, int8_inputs=True),
    head=Form(8, int8_inputs=True),
    clippings=(1.0, 0.95, 0.9, 0.85),
)
