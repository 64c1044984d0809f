"""`adnext_completion`: what lets the Tab key complete commands, options and names of trainers, for bash or zsh."""

import argparse
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress

from adnext_plugin.cli.adnext import PREFIX, commands
from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.registry import TRAINERS, registered_names

OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
SCRIPT = """\
_adnext() {{
    local name=${{COMP_WORDS[0]##*/}} word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    if [[ $name == adnext ]]; then
        if (( COMP_CWORD == 1 )); then
            COMPREPLY=($(compgen -W "{names}" -- "$word")); return
        fi
        name={prefix}${{COMP_WORDS[1]}}
    fi
    if [[ $before == -tr || $before == --trainer ]]; then
        COMPREPLY=($(compgen -W "{trainers}" -- "$word")); return
    fi
    if [[ $word == -* ]]; then
        case $name in
{cases}
        esac
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _adnext adnext {all}
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = new_parser(
        "adnext_completion",
        "Print a script for the Tab key. Once: adnext_completion bash > ~/.adnext_completion, and in ~/.bashrc: "
        "source ~/.adnext_completion. Make it again when packages have added trainers.",
    )
    parser.add_argument("shell", choices=["bash", "zsh"])
    arguments: argparse.Namespace = parser.parse_args(argv)
    beginning = "autoload -U +X bashcompinit && bashcompinit\n" if arguments.shell == "zsh" else ""
    options = {name: _options(name) for name in commands()}
    print(beginning + script(options, registered_names(TRAINERS)), end="")
    return 0


def script(options: Mapping[str, Iterable[str]], trainers: Iterable[str]) -> str:
    """The script for bash.

    Args:
        options: of each command, by its name without the beginning.
        trainers: their names.
    """
    cases = [f'            {PREFIX}{name}) words="{" ".join(words)}";;' for name, words in options.items()]
    return SCRIPT.format(
        names=" ".join(options),
        prefix=PREFIX,
        trainers=" ".join(trainers),
        cases="\n".join(cases),
        all=" ".join(f"{PREFIX}{name}" for name in options),
    )


def _options(name: str) -> list[str]:
    """What a command's `--help` names."""
    if name == "completion":
        return ["--help"]
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        commands()[name].load()(["--help"])
    return sorted(set(OPTION.findall(said.getvalue())))
