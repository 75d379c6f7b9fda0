"""4 bits a weight in groups of 128, each with a scale alone, from -8 to 7 of it; the head in 8 bits."""

from __future__ import annotations

from quire.config.quantization import Form, Scheme

SCHEME = Scheme(projections=Form(4, 128), head=Form(8), clippings=(1.0, 0.95, 0.9, 0.85))
