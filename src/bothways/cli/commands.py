"""The list of commands. Each is a plain function; its typed arguments are its options, its docstring its help."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bothways import __version__
from bothways.cli import (
    adapt,
    augment,
    bench,
    bench_embed,
    cluster,
    compare,
    corpus,
    dedupe,
    diagnose,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    families,
    fill,
    index,
    info,
    inspect_vectors,
    map,
    mine,
    new,
    predict,
    pretrain,
    prune,
    quantize,
    quickstart,
    report,
    rerank,
    search,
    serve,
    tokenizer,
    tune,
)
from bothways.cli.finetuning import answer, choose, classify, late, pairs, regress, sparse, tag
from bothways.cli.finetuning import embed as finetune_embed
from bothways.cli.finetuning import rerank as finetune_rerank
from bothways.cli.options import Debug, Quiet
from bothways.progress import silent

Command = Callable[..., None]

_FINETUNING: dict[str, tuple[Command, list[str]]] = {
    "classify": (classify.classify, classify.EXAMPLES),
    "pairs": (pairs.pairs, pairs.EXAMPLES),
    "regress": (regress.regress, regress.EXAMPLES),
    "tag": (tag.tag, tag.EXAMPLES),
    "answer": (answer.answer, answer.EXAMPLES),
    "choose": (choose.choose, choose.EXAMPLES),
    "rerank": (finetune_rerank.rerank, finetune_rerank.EXAMPLES),
    "sparse": (sparse.sparse, sparse.EXAMPLES),
    "late": (late.late, late.EXAMPLES),
    "embed": (finetune_embed.embed, finetune_embed.EXAMPLES),
}
# in the order of help; a name of two words is a command in a group
COMMANDS: dict[str, tuple[Command, list[str]]] = {
    "quickstart": (quickstart.quickstart, quickstart.EXAMPLES),
    "tokenizer train": (tokenizer.train, tokenizer.TRAIN_EXAMPLES),
    "tokenizer show": (tokenizer.show, tokenizer.SHOW_EXAMPLES),
    "corpus clean": (corpus.clean, corpus.CLEAN_EXAMPLES),
    "corpus prepare": (corpus.prepare, corpus.PREPARE_EXAMPLES),
    "new": (new.new, new.EXAMPLES),
    "pretrain": (pretrain.pretrain, pretrain.EXAMPLES),
    "adapt": (adapt.adapt, adapt.EXAMPLES),
    "report": (report.report, report.EXAMPLES),
    "diagnose": (diagnose.diagnose, diagnose.EXAMPLES),
    **{f"finetune {task}": made for task, made in _FINETUNING.items()},
    **{f"tune {task}": (tune.searching(task, made[0]), tune.examples(task)) for task, made in _FINETUNING.items()},
    "evaluate": (evaluate.evaluate, evaluate.EXAMPLES),
    "compare": (compare.compare, compare.EXAMPLES),
    "predict": (predict.predict, predict.EXAMPLES),
    "rerank": (rerank.rerank, rerank.EXAMPLES),
    "augment": (augment.augment, augment.EXAMPLES),
    "mine": (mine.mine, mine.EXAMPLES),
    "fill": (fill.fill, fill.EXAMPLES),
    "embed": (embed.embed, embed.EXAMPLES),
    "index build": (index.build, index.BUILD_EXAMPLES),
    "index add": (index.add, index.ADD_EXAMPLES),
    "index delete": (index.delete, index.DELETE_EXAMPLES),
    "index info": (index.info, index.INFO_EXAMPLES),
    "search": (search.search, search.EXAMPLES),
    "cluster": (cluster.cluster, cluster.EXAMPLES),
    "dedupe": (dedupe.dedupe, dedupe.EXAMPLES),
    "map": (map.draw, map.EXAMPLES),
    "serve": (serve.serve, serve.EXAMPLES),
    "prune": (prune.prune, prune.EXAMPLES),
    "quantize": (quantize.quantize, quantize.EXAMPLES),
    "export": (export.export, export.EXAMPLES),
    "explain": (explain.explain, explain.EXAMPLES),
    "families": (families.families, families.EXAMPLES),
    "info": (info.info, info.EXAMPLES),
    "inspect vectors": (inspect_vectors.vectors, inspect_vectors.EXAMPLES),
    "inspect explanations": (explain.explanations, explain.INSPECT_EXAMPLES),
    "bench embed": (bench_embed.embed, bench_embed.EXAMPLES),
    "bench pretrain": (bench.pretrain, bench.EXAMPLES),
    "doctor": (doctor.doctor, doctor.EXAMPLES),
}
GROUPS = {
    "tokenizer": "Train a vocabulary, or look into one.",
    "corpus": "Clean raw text, and prepare it for pre-training.",
    "bench": "Measure how fast this machine is.",
    "inspect": "Look into a model: how its vectors lie, whether its explanations hold.",
    "finetune": "Teach a pre-trained encoder a task.",
    "tune": "Search the settings to fine-tune with.",
    "index": "Keep texts as vectors and words, to search them.",
}


class _InOrder(TyperGroup):
    """A group that lists its commands as `COMMANDS` has them, not groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands in the order of help."""
        names = dict.fromkeys(word for name in COMMANDS for word in name.split())
        return [name for name in names if name in self.commands]


def application() -> typer.Typer:
    """The whole command line."""
    app = _group("bothways", _root, ["bothways quickstart", "bothways pretrain --help"])
    groups = {name: _group(name, _help, []) for name in GROUPS}
    for name, group in groups.items():
        app.add_typer(group, name=name, help=GROUPS[name])
    for name, (function, examples) in COMMANDS.items():
        within, _, rest = name.rpartition(" ")
        (groups[within] if within else app).command(rest, epilog=_epilog(examples))(_with_common(function))
    return app


@functools.cache
def command() -> Any:
    """The whole command line as it is run, made once in a process: it keeps nothing of what is typed."""
    return typer.main.get_command(application())


def _group(name: str, without_command: Command, examples: list[str]) -> typer.Typer:
    group = typer.Typer(
        name=name, cls=_InOrder, add_completion=False, rich_markup_mode="rich", invoke_without_command=True
    )
    group.callback(epilog=_epilog(examples) if examples else None)(without_command)
    return group


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """The BERT family, whole: from raw text to a trained, measured, saved encoder."""
    if version:
        print(f"bothways {__version__}")
    else:
        _help(context)


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _epilog(examples: list[str]) -> str:
    """Examples below the help, each on a line of its own; brackets in them are no markup."""
    return "\n\n".join(["[bold]Examples[/bold]", *(example.replace("[", r"\[") for example in examples)])


def _with_common(function: Command) -> Command:
    """The command with the options that every command has: ``--quiet`` and ``--debug``."""

    @functools.wraps(function)
    def run(*, quiet: bool = False, debug: bool = False, **arguments: Any) -> None:
        silent(quiet)
        function(**arguments)

    hints = typing.get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters.values()
    common = {"quiet": Quiet, "debug": Debug}
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in common.items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = hints | common
    return run
