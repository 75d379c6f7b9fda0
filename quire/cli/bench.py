"""``quire bench latency|throughput|serve``: which benchmark.

Not here: flags of each (_bench_engine.py, _bench_serve.py), the measuring (quire/bench/).
"""

from __future__ import annotations

from collections.abc import Sequence

from quire.errors import ConfigError

HELP = "measure latency, throughput, or a server under load"

USAGE = """usage: quire bench latency|throughput|serve [options]

  latency      how long one batch takes, again and again
  throughput   tokens a second when everything is asked at once; --jobs peers runs the jobs that engines are compared on
  serve        a server under load: requests that arrive over time, and how long people would have waited

latency and throughput load an engine into this process and take the flags of an engine too (quire serve --help=all);
serve measures any server that speaks the OpenAI API. Each explains its own flags: quire bench latency --help."""


def run(arguments: Sequence[str]) -> int:
    """Measure what the first argument names.

    Raises: ConfigError for another benchmark than the three, or a wrong flag.
    """
    which, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if which in ("-h", "--help"):
        print(USAGE)
        return 0
    if which == "latency":
        from quire.cli import _bench_engine

        return _bench_engine.latency(rest)
    if which == "throughput":
        from quire.cli import _bench_engine

        return _bench_engine.throughput(rest)
    if which == "serve":
        from quire.cli import _bench_serve

        return _bench_serve.serve(rest)
    raise ConfigError(f"There is no benchmark {which!r}; there are latency, throughput and serve.")
