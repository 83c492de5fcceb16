"""Bothways: the BERT family, whole. ``import bothways as bw``; nothing heavy is imported until it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError, BothwaysWarning

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from bothways.batch import TokenBatch as TokenBatch
    from bothways.batch import pack as pack
    from bothways.batch import unpack as unpack
    from bothways.learn.adapt import adapt as adapt
    from bothways.learn.compression.prune import prune as prune
    from bothways.learn.curve import learning_curve as learning_curve
    from bothways.learn.diagnose import diagnose as diagnose
    from bothways.learn.evaluate import evaluate as evaluate
    from bothways.learn.finetune import finetune as finetune
    from bothways.learn.folds import cross_validate as cross_validate
    from bothways.learn.judging.compare import compare as compare
    from bothways.learn.pretrain import pretrain as pretrain
    from bothways.learn.report import write_report as write_report
    from bothways.learn.several import finetune_seeds as finetune_seeds
    from bothways.learn.tune import tune as tune
    from bothways.run.model import Model as Model
    from bothways.run.new import new as new
    from bothways.run.opening import load as load
    from bothways.text.tokenizer import Tokenizer as Tokenizer
    from bothways.text.train import train_tokenizer as train_tokenizer
    from bothways.use.clean import clean_corpus as clean_corpus
    from bothways.use.corpus import prepare_corpus as prepare_corpus
    from bothways.use.explain.explain import explain as explain
    from bothways.use.mteb_model import mteb_model as mteb_model
    from bothways.use.search.index import Index as Index
    from bothways.use.serve.app import web_app as web_app

_WHERE = {
    "Index": "bothways.use.search.index",
    "Model": "bothways.run.model",
    "TokenBatch": "bothways.batch",
    "Tokenizer": "bothways.text.tokenizer",
    "adapt": "bothways.learn.adapt",
    "clean_corpus": "bothways.use.clean",
    "compare": "bothways.learn.judging.compare",
    "cross_validate": "bothways.learn.folds",
    "diagnose": "bothways.learn.diagnose",
    "evaluate": "bothways.learn.evaluate",
    "explain": "bothways.use.explain.explain",
    "finetune": "bothways.learn.finetune",
    "finetune_seeds": "bothways.learn.several",
    "learning_curve": "bothways.learn.curve",
    "load": "bothways.run.opening",
    "mteb_model": "bothways.use.mteb_model",
    "new": "bothways.run.new",
    "pack": "bothways.batch",
    "prepare_corpus": "bothways.use.corpus",
    "pretrain": "bothways.learn.pretrain",
    "prune": "bothways.learn.compression.prune",
    "train_tokenizer": "bothways.text.train",
    "tune": "bothways.learn.tune",
    "unpack": "bothways.batch",
    "web_app": "bothways.use.serve.app",
    "write_report": "bothways.learn.report",
}

__all__ = ["BothwaysError", "BothwaysWarning", "__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'bothways' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
