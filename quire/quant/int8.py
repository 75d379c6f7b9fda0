"""8 bits a weight and one scale a column of the result; products in the model's own type.

Half of bfloat16's bytes; what it says is hardly changed.
"""

from __future__ import annotations

from quire.config.quantization import Form, Scheme

SCHEME = Scheme(projections=Form(8), head=Form(8))
