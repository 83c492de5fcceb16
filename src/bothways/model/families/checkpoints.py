"""Published checkpoints by name: where they are, what they are, what they read, and under which licence.

All open with ``bw.load(hub)``. Facts are those of the papers, model cards and repositories; a licence that neither
states is "not stated". Rows of the token table are those of the published ``config.json``.
"""

from __future__ import annotations

from dataclasses import dataclass

UNSTATED = "not stated"
_BOOKS = "English Wikipedia and BookCorpus"
_ROBERTA = "160 GB of English: Wikipedia, books, news, web pages and stories"
_PAIRS = "over a billion pairs of English sentences"
_OPEN = "Apache-2.0"


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        name: As people call it.
        hub: Its id on the Hugging Face hub.
        family: The family that opens it.
        size: The published size whose shape it has, whatever the vocabulary; empty for a shape of its own.
        vocabulary: Rows of its token table.
        trained_on: Texts, and what it was begun from.
        licence: Of the weights.
    """

    name: str
    hub: str
    family: str
    size: str
    vocabulary: int
    trained_on: str
    licence: str


CHECKPOINTS = tuple(
    Checkpoint(*facts)
    for facts in (
        # the families' own
        ("BERT base", "google-bert/bert-base-uncased", "bert", "base", 30_522, _BOOKS, _OPEN),
        ("BERT large", "google-bert/bert-large-uncased", "bert", "large", 30_522, _BOOKS, _OPEN),
        ("BERT base, cased", "google-bert/bert-base-cased", "bert", "base", 28_996, _BOOKS, _OPEN),
        ("BERT large, cased", "google-bert/bert-large-cased", "bert", "large", 28_996, _BOOKS, _OPEN),
        ("BERT tiny", "google/bert_uncased_L-2_H-128_A-2", "bert", "tiny", 30_522, _BOOKS, _OPEN),
        ("BERT mini", "google/bert_uncased_L-4_H-256_A-4", "bert", "mini", 30_522, _BOOKS, _OPEN),
        ("BERT small", "google/bert_uncased_L-4_H-512_A-8", "bert", "small", 30_522, _BOOKS, _OPEN),
        ("BERT medium", "google/bert_uncased_L-8_H-512_A-8", "bert", "medium", 30_522, _BOOKS, _OPEN),
        ("ALBERT base v2", "albert/albert-base-v2", "albert", "base", 30_000, _BOOKS, _OPEN),
        ("ALBERT large v2", "albert/albert-large-v2", "albert", "large", 30_000, _BOOKS, _OPEN),
        ("ALBERT xlarge v2", "albert/albert-xlarge-v2", "albert", "xlarge", 30_000, _BOOKS, _OPEN),
        ("ALBERT xxlarge v2", "albert/albert-xxlarge-v2", "albert", "xxlarge", 30_000, _BOOKS, _OPEN),
        ("RoBERTa base", "FacebookAI/roberta-base", "roberta", "base", 50_265, _ROBERTA, "MIT"),
        ("RoBERTa large", "FacebookAI/roberta-large", "roberta", "large", 50_265, _ROBERTA, "MIT"),
        (
            "DistilRoBERTa", "distilbert/distilroberta-base", "roberta", "distil", 50_265,
            "OpenWebText, distilled from RoBERTa base", _OPEN,
        ),
        (
            "DistilBERT", "distilbert/distilbert-base-uncased", "distilbert", "base", 30_522,
            f"{_BOOKS}, distilled from BERT base", _OPEN,
        ),
        (
            "DistilBERT, cased", "distilbert/distilbert-base-cased", "distilbert", "base", 28_996,
            f"{_BOOKS}, distilled from BERT base, cased", _OPEN,
        ),
        (
            "DistilBERT, multilingual", "distilbert/distilbert-base-multilingual-cased", "distilbert", "base", 119_547,
            "Wikipedia in 104 languages, distilled from multilingual BERT", _OPEN,
        ),
        ("ELECTRA small", "google/electra-small-discriminator", "electra", "small", 30_522, _BOOKS, _OPEN),
        ("ELECTRA base", "google/electra-base-discriminator", "electra", "base", 30_522, _BOOKS, _OPEN),
        (
            "ELECTRA large", "google/electra-large-discriminator", "electra", "large", 30_522,
            "the text of XLNet: Wikipedia, books, ClueWeb, CommonCrawl and Gigaword", _OPEN,
        ),
        (
            "DeBERTa base", "microsoft/deberta-base", "deberta", "base", 50_265,
            "78 GB of English: Wikipedia, books, web pages and stories", "MIT",
        ),
        ("DeBERTaV3 xsmall", "microsoft/deberta-v3-xsmall", "deberta-v2", "v3-xsmall", 128_100, _ROBERTA, "MIT"),
        ("DeBERTaV3 small", "microsoft/deberta-v3-small", "deberta-v2", "v3-small", 128_100, _ROBERTA, "MIT"),
        ("DeBERTaV3 base", "microsoft/deberta-v3-base", "deberta-v2", "v3-base", 128_100, _ROBERTA, "MIT"),
        ("DeBERTaV3 large", "microsoft/deberta-v3-large", "deberta-v2", "v3-large", 128_100, _ROBERTA, "MIT"),
        (
            "mDeBERTaV3", "microsoft/mdeberta-v3-base", "deberta-v2", "mdeberta-v3-base", 251_000,
            "CC100, web pages in a hundred languages", "MIT",
        ),
        ("MPNet", "microsoft/mpnet-base", "mpnet", "base", 30_527, _ROBERTA, UNSTATED),
        (
            "Longformer base", "allenai/longformer-base-4096", "longformer", "base-4096", 50_265,
            "long documents, from RoBERTa base", _OPEN,
        ),
        (
            "Longformer large", "allenai/longformer-large-4096", "longformer", "large-4096", 50_265,
            "long documents, from RoBERTa large", _OPEN,
        ),
        (
            "BigBird base", "google/bigbird-roberta-base", "big_bird", "base", 50_358,
            "books, news, stories and Wikipedia, from RoBERTa base", _OPEN,
        ),
        (
            "ModernBERT base", "answerdotai/ModernBERT-base", "modernbert", "base", 50_368,
            "2 trillion tokens of English and code", _OPEN,
        ),
        (
            "ModernBERT large", "answerdotai/ModernBERT-large", "modernbert", "large", 50_368,
            "2 trillion tokens of English and code", _OPEN,
        ),
        # languages
        (
            "multilingual BERT", "google-bert/bert-base-multilingual-cased", "bert", "base", 119_547,
            "Wikipedia in 104 languages", _OPEN,
        ),
        (
            "multilingual BERT, uncased", "google-bert/bert-base-multilingual-uncased", "bert", "base", 105_879,
            "Wikipedia in 102 languages", _OPEN,
        ),
        ("Chinese BERT", "google-bert/bert-base-chinese", "bert", "base", 21_128, "Chinese Wikipedia", _OPEN),
        (
            "XLM-R base", "FacebookAI/xlm-roberta-base", "xlm-roberta", "base", 250_002,
            "2.5 TB of CommonCrawl in a hundred languages", "MIT",
        ),
        (
            "XLM-R large", "FacebookAI/xlm-roberta-large", "xlm-roberta", "large", 250_002,
            "2.5 TB of CommonCrawl in a hundred languages", "MIT",
        ),
        (
            "CamemBERT", "almanach/camembert-base", "camembert", "base", 32_005,
            "138 GB of French web pages (OSCAR)", "MIT",
        ),
        # domains
        (
            "SciBERT", "allenai/scibert_scivocab_uncased", "bert", "base", 31_090,
            "1.14 million papers of Semantic Scholar, with a vocabulary of its own", "Apache-2.0 (repository)",
        ),
        (
            "SciBERT, cased", "allenai/scibert_scivocab_cased", "bert", "base", 31_116,
            "1.14 million papers of Semantic Scholar, with a vocabulary of its own", "Apache-2.0 (repository)",
        ),
        (
            "BioBERT", "dmis-lab/biobert-v1.1", "bert", "base", 28_996,
            "PubMed abstracts, from BERT base, cased", UNSTATED,
        ),
        (
            "ClinicalBERT", "emilyalsentzer/Bio_ClinicalBERT", "bert", "base", 28_996,
            "clinical notes of MIMIC-III, from BioBERT", "MIT",
        ),
        (
            "PubMedBERT (abstracts)", "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "bert", "base", 30_522,
            "PubMed abstracts, with a vocabulary of its own", "MIT",
        ),
        (
            "PubMedBERT", "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext", "bert", "base", 30_522,
            "PubMed abstracts and articles of PubMed Central, with a vocabulary of its own", "MIT",
        ),
        (
            "LegalBERT", "nlpaueb/legal-bert-base-uncased", "bert", "base", 30_522,
            "12 GB of English law: legislation, court cases and contracts, with a vocabulary of its own",
            "CC-BY-SA-4.0",
        ),
        (
            "LegalBERT small", "nlpaueb/legal-bert-small-uncased", "bert", "", 30_522,
            "12 GB of English law: legislation, court cases and contracts, with a vocabulary of its own",
            "CC-BY-SA-4.0",
        ),
        (
            "FinBERT (sentiment)", "ProsusAI/finbert", "bert", "base", 30_522,
            "financial news of Reuters, from BERT base; fine-tuned on the Financial PhraseBank", UNSTATED,
        ),
        (
            "FinBERT", "yiyanghkust/finbert-pretrain", "bert", "base", 30_873,
            "company reports, earnings calls and analyst reports, with a vocabulary of its own", UNSTATED,
        ),
        (
            "CodeBERT", "microsoft/codebert-base", "roberta", "base", 50_265,
            "functions in six programming languages and their documentation (CodeSearchNet)", UNSTATED,
        ),
        # MiniLM and models of sentences
        (
            "MiniLM-L12", "microsoft/MiniLM-L12-H384-uncased", "bert", "", 30_522,
            f"{_BOOKS}, distilled from a model as large as BERT base", "MIT",
        ),
        (
            "MiniLM-L12, multilingual", "microsoft/Multilingual-MiniLM-L12-H384", "bert", "", 250_037,
            "distilled from XLM-R base", "MIT",
        ),
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "bert", "", 30_522, _PAIRS, _OPEN),
        ("all-MiniLM-L12-v2", "sentence-transformers/all-MiniLM-L12-v2", "bert", "", 30_522, _PAIRS, _OPEN),
        ("all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2", "mpnet", "base", 30_527, _PAIRS, _OPEN),
        (
            "all-distilroberta-v1", "sentence-transformers/all-distilroberta-v1", "roberta", "distil", 50_265,
            _PAIRS, _OPEN,
        ),
        (
            "paraphrase-multilingual-MiniLM-L12-v2", "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
            "bert", "", 250_037, "parallel sentences in over fifty languages, taught by an English model", _OPEN,
        ),
        (
            "LaBSE", "sentence-transformers/LaBSE", "bert", "base", 501_153,
            "texts and translations in 109 languages", _OPEN,
        ),
        (
            "E5 small, multilingual", "intfloat/multilingual-e5-small", "bert", "", 250_037,
            "a billion pairs of texts in many languages", "MIT",
        ),
        (
            "E5 base, multilingual", "intfloat/multilingual-e5-base", "xlm-roberta", "base", 250_002,
            "a billion pairs of texts in many languages", "MIT",
        ),
    )
)  # fmt: skip
"""By kind: the families' own, other languages, domains, models of sentences."""
