"""8 bits a weight, and 8 bits an input of each product: whole numbers are multiplied and summed.

The fastest where many rows are computed at once; each row of inputs has a scale of its own.
"""

from __future__ import annotations

from quire.config.quantization import Form, Scheme

SCHEME = Scheme(projections=Form(8, int8_inputs=True), head=Form(8, int8_inputs=True))
