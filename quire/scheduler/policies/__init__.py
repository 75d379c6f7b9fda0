"""Shelf of policies: who comes first, and who may take another's place.

A policy is a module with ``order(request, arrival)`` (smaller is served first, preempted last) and ``displaces(waiting,
running)`` (whether a waiting request may have a running one preempted when rows or blocks run short). One that shares
out between tenants has a class ``Shares`` too (see scheduler/policy.py): then ``order`` holds within a tenant.
"""
