"""Configurations are values that refuse what they do not know."""

import json

import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.model.config import AttentionConfig, EmbeddingsConfig, EncoderConfig, FeedForwardConfig, HeadConfig


def test_a_configuration_survives_json():
    config = tiny.config(pooler=None, feed_forward__activation="silu", dropout=0)
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    head = HeadConfig(kind="classify", labels=("a", "b"), hidden="gelu", dropout=0.25)
    assert HeadConfig.from_dict(json.loads(json.dumps(head.to_dict()))) == head


def test_an_unknown_key_is_refused_with_the_closest_known_one():
    values = tiny.config().to_dict()
    with pytest.raises(BothwaysError, match=r"run.json has an unknown key 'layer'; did you mean 'layers'\?"):
        EncoderConfig.from_dict({**values, "layer": 3}, "run.json")
    values["attention"]["head"] = 3
    with pytest.raises(BothwaysError, match=r"run.json, attention has an unknown key 'head'; did you mean 'heads'\?"):
        EncoderConfig.from_dict(values, "run.json")


def test_a_missing_key_is_named():
    values = tiny.config().to_dict()
    del values["layers"]
    with pytest.raises(BothwaysError, match="the configuration lacks the key 'layers'"):
        EncoderConfig.from_dict(values)


def test_derive_changes_a_copy_at_any_depth():
    config = tiny.config()
    other = config.derive(
        layers=7, embeddings__positions=99, attention=AttentionConfig(heads=2), attention__dropout=0.5
    )
    assert (other.layers, other.embeddings.positions, other.attention) == (7, 99, AttentionConfig(heads=2, dropout=0.5))
    assert config == tiny.config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layres": 3}, "EncoderConfig has no setting 'layres'; did you mean 'layers'"),
        ({"attention__head": 3}, "AttentionConfig has no setting 'head'; did you mean 'heads'"),
        ({"atention__heads": 3}, "EncoderConfig has no setting 'atention'; did you mean 'attention'"),
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"layers": 2.5}, "layers must be int, not 2.5"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dropout": "0.1"}, "dropout must be float, not '0.1'"),
        ({"attention__heads": 5}, "the width 48 is not a multiple of the 5 heads"),
        ({"feed_forward__activation": "gellu"}, "activation cannot be 'gellu'; there are .*; did you mean 'gelu'"),
        ({"feed_forward": {"width": 3}}, "feed_forward must be FeedForwardConfig, not {'width': 3}"),
        ({"pooler": "mean"}, "pooler cannot be 'mean'; there are tanh; did you mean 'tanh'"),
        ({"embeddings__pad_id": 211}, "pad_id 211 is outside the vocabulary of 211 tokens"),
        ({"embeddings__vocab_size": -1}, "vocab_size must be at least 1, not -1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_where_it_is_given(changes, message):
    with pytest.raises(BothwaysError, match=message):
        tiny.config().derive(**changes)


def test_a_head_must_be_of_a_known_kind():
    with pytest.raises(BothwaysError, match=r"kind cannot be 'clasify'; there are .*; did you mean 'classify'"):
        HeadConfig(kind="clasify")
    with pytest.raises(BothwaysError, match=r"hidden cannot be 'square'; there are gelu, .*none"):
        HeadConfig(kind="classify", hidden="square")


def test_parts_stand_alone():
    """A part is a value of its own, usable without an encoder's configuration."""
    assert EmbeddingsConfig(vocab_size=9, width=4, positions=8, segments=2).derive(width=5).width == 5
    assert FeedForwardConfig(width=9).to_dict()["activation"] == "gelu"
