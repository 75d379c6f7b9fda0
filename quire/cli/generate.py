"""``quire generate``: continue a prompt in this process, without a server.

Not here: the library behind it (llm.py), talking to a server (chat.py, complete.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quire.cli._arguments import Parser, print_help
from quire.config.asked import all_options
from quire.config.flags import read_command_line
from quire.errors import ConfigError

HELP = "continue a prompt once, without a server"

_INTRO = """Continue a prompt (or what comes on standard input) and print the continuation.

    quire generate --prompt "Once upon a time" --max-tokens 50
    quire generate Qwen/Qwen3-0.6B --chat --prompt "What is a quire?"

    --prompt TEXT --max-tokens N (256) --temperature T --sampling-seed N; --chat: through the model's chat template
"""


def run(arguments: Sequence[str]) -> int:
    """Print one continuation."""
    if print_help("quire generate", arguments, _INTRO, takes_server=False):
        return 0
    parser = Parser(prog="quire generate", add_help=False, allow_abbrev=False)
    parser.add_argument("--prompt")
    parser.add_argument("--max-tokens", "--max_tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--sampling-seed", type=int)
    parser.add_argument("--chat", action="store_true")
    own, rest = parser.parse_known_args(list(arguments))
    engine = read_command_line(rest, prog="quire generate", takes_server=False).engine
    prompt = own.prompt
    if prompt is None:
        if sys.stdin.isatty():
            raise ConfigError("There is no prompt; give --prompt, or text on standard input.")
        prompt = sys.stdin.read()
    options = {
        one.name: getattr(getattr(engine, group), one.name) for group, one in all_options() if engine.is_asked(one.name)
    }
    from quire.llm import LLM

    model = str(options.pop("model", engine.model.model))
    llm = LLM(model, **options)
    params = llm.get_default_sampling_params()
    params.seed, params.max_tokens = own.sampling_seed, own.max_tokens
    if own.temperature is not None:
        params.temperature = own.temperature
    if own.chat:
        outputs = llm.chat([{"role": "user", "content": prompt}], params, use_tqdm=False)
    else:
        outputs = llm.generate(prompt, params, use_tqdm=False)
    llm.close()
    answer = outputs[0].outputs[0]
    print(answer.text)
    if answer.finish_reason == "error":
        print("quire: the engine failed this continuation; what is above is not whole.", file=sys.stderr)
        return 1
    return 0
