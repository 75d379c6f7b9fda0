"""Quire against other engines on one machine: the same jobs in turn, each engine in an environment of its own.

Not here: Quire's own measuring (quire/bench/), measured figures (benchmarks/results/).
Door: ``python -m benchmarks.peers.race``, after ``benchmarks/peers/setup.sh``.
"""
