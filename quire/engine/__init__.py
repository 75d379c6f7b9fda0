"""The engine: a loop over scheduler and executor, its process, and the handles on it.

Token ids only: text is the business of the packages in front. Never torch: an executor reaches the device stack by
name.
"""
