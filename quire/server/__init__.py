"""The HTTP server: sockets' requests in, the engine's tokens out as JSON and event streams.

Not here: text (quire.text), the engine (quire.engine), the process that listens (quire.assemble).
Door: quire.server.app.create_app.
"""
