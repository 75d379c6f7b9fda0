"""Modules at paths that people start by name; each only hands over to a verb of the command line."""
