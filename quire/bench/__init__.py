"""How fast it is: the measuring code behind ``quire bench``.

Not here: flags (cli/bench.py), figures that were measured (benchmarks/results/).
Door: latency.py, throughput.py, jobs.py, serve.py.
"""
