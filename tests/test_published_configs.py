"""Models that are a family with other numbers: MiniLM, domain and multilingual BERTs and RoBERTas.

Their ``config.json`` as published, keys that say nothing included, must make the encoder of the published size, without
a word. Parameters in millions are those of the model cards, the papers, or the repository of MiniLM.
"""

import json
import warnings

import pytest
import torch
import transformers

from bothways.model.build import build_encoder
from bothways.run.folder import encoder_config

EARLY = {  # written by the first conversions: no model_type, no epsilon, no padding id
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512, "num_attention_heads": 12,
    "num_hidden_layers": 12, "type_vocab_size": 2,
}  # fmt: skip
BERT = EARLY | {"model_type": "bert", "layer_norm_eps": 1e-12, "pad_token_id": 0}
LATER = BERT | {
    "architectures": ["BertModel"], "gradient_checkpointing": False, "position_embedding_type": "absolute",
    "transformers_version": "4.8.2", "use_cache": True,
}  # fmt: skip
CHINESE = {  # what early conversions of Google's multilingual and Chinese models carry along
    "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
}  # fmt: skip
ROBERTA = EARLY | {
    "architectures": ["RobertaForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1,
}  # fmt: skip
XLM = ROBERTA | {
    "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "output_past": True, "vocab_size": 250_002,
}  # fmt: skip
MINI = {"hidden_size": 384, "intermediate_size": 1536}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}

# hub id: config.json, tokens that it takes, parameters of the encoder in millions
PUBLISHED = {
    "microsoft/MiniLM-L12-H384-uncased": (BERT | MINI | {"vocab_size": 30_522}, 512, 33.4),
    "microsoft/Multilingual-MiniLM-L12-H384": (BERT | MINI | {"vocab_size": 250_037}, 512, 117.7),
    "sentence-transformers/all-MiniLM-L6-v2": (
        LATER | MINI | {"num_hidden_layers": 6, "vocab_size": 30_522}, 512, 22.7,
    ),
    "sentence-transformers/all-MiniLM-L12-v2": (LATER | MINI | {"vocab_size": 30_522}, 512, 33.4),
    "sentence-transformers/paraphrase-MiniLM-L3-v2": (
        LATER | MINI | {"num_hidden_layers": 3, "vocab_size": 30_522}, 512, 17.4,
    ),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": (LATER | MINI | {"vocab_size": 250_037}, 512, 117.7),
    "intfloat/multilingual-e5-small": (
        LATER | MINI | {"tokenizer_class": "XLMRobertaTokenizer", "vocab_size": 250_037}, 512, 117.7,
    ),
    "sentence-transformers/LaBSE": (LATER | CHINESE | {"vocab_size": 501_153}, 512, 470.9),
    "allenai/scibert_scivocab_uncased": (EARLY | {"vocab_size": 31_090}, 512, 109.9),
    "allenai/scibert_scivocab_cased": (EARLY | {"vocab_size": 31_116}, 512, 109.9),
    "dmis-lab/biobert-v1.1": (LATER | {"vocab_size": 28_996}, 512, 108.3),
    "emilyalsentzer/Bio_ClinicalBERT": (EARLY | {"model_type": "bert", "vocab_size": 28_996}, 512, 108.3),
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": (BERT | {"vocab_size": 30_522}, 512, 109.5),
    "nlpaueb/legal-bert-base-uncased": (
        BERT | {
            "architectures": ["BertForPreTraining"], "bos_token_id": 0, "eos_token_ids": 0, "output_past": True,
            "vocab_size": 30_522,
        }, 512, 109.5,
    ),
    "nlpaueb/legal-bert-small-uncased": (
        BERT | {
            "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 6,
            "vocab_size": 30_522,
        }, 512, 35.1,
    ),
    "ProsusAI/finbert": (
        LATER | {"architectures": ["BertForSequenceClassification"], "vocab_size": 30_522}, 512, 109.5,
    ),
    "yiyanghkust/finbert-pretrain": (EARLY | {"vocab_size": 30_873}, 512, 109.8),
    "bert-base-multilingual-cased": (BERT | CHINESE | {"vocab_size": 119_547}, 512, 177.9),
    "bert-base-multilingual-uncased": (BERT | CHINESE | {"vocab_size": 105_879}, 512, 167.4),
    "microsoft/codebert-base": (
        ROBERTA | {"architectures": ["RobertaModel"], "output_past": True, "vocab_size": 50_265}, 512, 124.6,
    ),
    "sentence-transformers/all-distilroberta-v1": (
        ROBERTA | {"gradient_checkpointing": False, "num_hidden_layers": 6, "vocab_size": 50_265}, 512, 82.1,
    ),
    "vinai/bertweet-base": (
        ROBERTA | {"max_position_embeddings": 130, "tokenizer_class": "BertweetTokenizer", "vocab_size": 64_001},
        128, 134.9,
    ),
    "vinai/phobert-base": (
        ROBERTA | {"max_position_embeddings": 258, "tokenizer_class": "PhobertTokenizer", "vocab_size": 64_001},
        256, 135.0,
    ),
    "nreimers/MiniLMv2-L6-H384-distilled-from-RoBERTa-Large": (
        ROBERTA | MINI | {"num_hidden_layers": 6, "vocab_size": 50_265}, 512, 30.3,
    ),
    "nreimers/mMiniLMv2-L6-H384-distilled-from-XLMR-Large": (XLM | MINI | {"num_hidden_layers": 6}, 512, 107.0),
    "intfloat/multilingual-e5-base": (XLM, 512, 278.0),
    "intfloat/multilingual-e5-large": (XLM | LARGE, 512, 559.9),
    "BAAI/bge-m3": (XLM | LARGE | {"max_position_embeddings": 8194}, 8192, 567.8),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_resolve_to_their_size(name, tmp_path):
    published, longest, millions = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(published))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = encoder_config(tmp_path)
    assert (config.family, config.longest) == (published.get("model_type", "bert"), longest)
    theirs = transformers.AutoConfig.for_model(**{"model_type": "bert"} | published)
    with torch.device("meta"):
        count = sum(value.numel() for value in build_encoder(config).parameters())
        expected = sum(value.numel() for value in transformers.AutoModel.from_config(theirs).parameters())
    assert count == expected
    assert round(count / 1e6, 1) == millions
