"""The server under the name that scripts start it by."""
