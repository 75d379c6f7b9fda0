"""What travels over HTTP, as msgspec records: one file a dialect.

Not here: what is done with it (routes/). Ranges of sampling fields are checked by text/validate.py, which every door
shares.
"""
