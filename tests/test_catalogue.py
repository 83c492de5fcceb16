"""What is said of families without building them is what the modules are."""

import functools
import json
import math
import re
from dataclasses import fields

import pytest
import torch

import test_published_configs
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.model import catalogue
from bothways.model.build import build_encoder
from bothways.model.compare import changes, differences, meanings, named, settings
from bothways.model.config import ConvolutionConfig, EncoderConfig
from bothways.model.counts import parameter_count, speed_class, work
from bothways.model.families import families, family
from bothways.model.families.checkpoints import CHECKPOINTS, UNSTATED
from cases import case

SIZES = [(name, size) for name, members in families().items() for size in members.sizes]
BASE = family("bert").size("base")


@functools.cache
def made(config):
    with torch.device("meta"):
        return build_encoder(config)


def built(config):
    return sum(value.numel() for value in made(config).parameters())


# -- parameters


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_parameters_are_those_of_the_modules(name, size):
    config = family(name).size(size)
    assert parameter_count(config) == built(config)


@pytest.mark.parametrize("name", families())
def test_parameters_are_counted_for_unusual_settings_too(name):
    """Each changed alone, and all together."""
    base = tiny.config(name)
    others = [base.derive(**{key: value}) for key, value in case(name).MATTERS.items()]
    extras = [base.derive(blocks=1), base.derive(norm="pre"), base.derive(norm="pre", first_norm=False)]
    extras += [base.derive(pooler="tanh"), base.derive(feed_forward__gated=True, norm_bias=False)]
    extras += [base.derive(convolution=ConvolutionConfig(kernel=3, groups=2)), base.derive(embeddings__width=20)]
    for config in [tiny.config(name, **case(name).ODD), *others, *extras]:
        assert parameter_count(config) == built(config), config


# -- work


def test_work_is_what_the_linear_layers_and_the_products_of_attention_take():
    """Counted by hand for BERT: four projections, two inner layers, queries with keys, weights with values."""
    a_layer = 4 * 768 * 768 + 2 * 768 * 3072
    assert work(BASE, 1) == 12 * (a_layer + 2 * 768)
    assert work(BASE, 100) == 12 * (a_layer + 2 * 768 * 100)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_work_is_at_least_that_of_the_matrices(name, size):
    """A token goes once through each matrix of each layer; the tables, which are looked up, take nothing."""
    config = family(name).size(size)
    encoder = made(config)
    of_block = [
        sum(value.numel() for key, value in block.named_parameters() if value.ndim == 2 and not apart(key))
        for block in encoder.stack.blocks
    ]
    convolution = encoder.stack.convolution.conv.weight.numel() if encoder.stack.convolution else 0
    projection = encoder.embeddings.projection.weight.numel() if encoder.embeddings.projection else 0
    matrices = sum(of_block[block] for block in config.schedule) + convolution + projection
    terms = (
        2 + getattr(config.attention, "content_to_position", 0) + getattr(config.attention, "position_to_content", 0)
    )
    assert work(config, 1) == matrices + config.layers * terms * config.width  # it looks at itself alone


def apart(key):
    """What only global tokens and distances go through."""
    return "global_" in key or "position_" in key


@pytest.mark.parametrize("length", [1, 2, 63, 300, 2000])
def test_tokens_in_a_window_are_counted_one_by_one(length):
    for window in (1, 64, 512):
        config = family("longformer").size().derive(layers=1, attention__windows=(window,))
        seen = sum(abs(a - b) <= window for a in range(length) for b in range(max(0, a - window), min(length, a + 513)))
        products = work(config, length) - work(config.derive(attention__windows=(1,)), 1) + 2 * 768
        assert products == pytest.approx(2 * 768 * seen / length)


def test_sparse_attention_grows_with_the_length_and_causal_attention_halves():
    bird, full = family("big_bird").size(), BASE.derive(embeddings__positions=4096)
    assert work(bird, 704) == work(full, 704)
    assert work(bird, 4096) - work(bird, 2048) < (work(full, 4096) - work(full, 2048)) / 50
    causal = family("causal").size()
    assert work(BASE, 99) - work(causal, 99) == 12 * 2 * 768 * 49


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_a_speed_class_is_the_inverse_of_work_as_a_power_of_two(name, size):
    config = family(name).size(size)
    top, _, bottom = speed_class(config, BASE).removesuffix("×").partition("/")
    claimed = int(top) / int(bottom or 1)
    assert math.log2(claimed).is_integer()
    assert 2**-0.5 <= claimed * work(config) / work(BASE) <= 2**0.5


def test_albert_is_small_and_not_fast():
    """What its paper is often taken to say, and does not."""
    albert = family("albert").size("base")
    assert parameter_count(albert) < parameter_count(BASE) / 9
    assert work(albert) > work(BASE)


# -- the table


def test_every_size_stands_in_the_table_with_its_own_figures():
    rows, name = catalogue.table(), ""
    seen = []
    for row in rows:
        line = dict(zip(catalogue.COLUMNS, row, strict=True))
        name = line["family"] or name
        for size in line["size"].split(", "):
            config = family(name).size(size)
            assert (line["layers"], line["width"]) == (config.layers, config.width)
            assert (line["heads"], line["longest input"]) == (config.attention.heads, config.longest)
            counted = float(line["parameters"].partition("M")[0])
            assert counted == pytest.approx(parameter_count(config) / 1e6, abs=0.05 if counted < 10 else 0.5)
            seen.append((name, size))
    assert sorted(seen) == sorted(SIZES)


def test_what_the_authors_state_stands_beside_what_is_counted():
    albert = {row[3].split(", ")[0]: row[4] for row in catalogue.table() if row[3].startswith(("xlarge,", "xxlarge,"))}
    assert albert == {"xlarge": "59M (60M)", "xxlarge": "223M (235M)"}
    for members in families().values():
        assert set(members.stated) <= set(members.sizes)
        for size, millions in members.stated.items():
            assert parameter_count(members.size(size)) / 1e6 == pytest.approx(millions, rel=0.06)


def test_papers_are_named_by_authors_and_place():
    told = {name: catalogue.short_paper(members) for name, members in families().items()}
    assert told["bert"] == "Devlin et al., NAACL 2019"
    assert told["deberta-v2"] == "He, Gao and Chen, ICLR 2023"
    assert told.pop("causal") == "–"
    assert all(re.fullmatch(r"[A-Z].*( et al\.| and \w+), \w+ 20\d\d", paper) for paper in told.values())


# -- differences


@pytest.mark.parametrize("name", families())
def test_differences_are_complete_and_each_is_one(name):
    """Nothing that differs is left out, and nothing that agrees is told."""
    one, other = BASE, family(name).size()
    mine, others = settings(one), settings(other)
    told = {row.setting for row in changes(one, other)}
    wanted = {key for key in mine | others if mine.get(key, ...) != others.get(key, ...)} - {"family", "blocks"}
    same_blocks = max(other.schedule) + 1 in (other.layers, 12)
    assert told == wanted | (set() if same_blocks else {"blocks"})
    assert all(row.meaning and row.values[0] != row.values[1] for row in differences("bert", name))


def test_albert_differs_from_bert_in_what_its_paper_says():
    told = {row.setting: row.values for row in differences("bert", "albert")}
    assert told["embeddings.width"] == ("768", "128")
    assert told["blocks"] == ("12", "1")
    assert told["parameters"] == ("109,482,240", "11,683,584")
    assert told["objectives"] == ("mlm, nsp", "mlm, sop")
    assert "layers" not in told
    assert told.keys() == {row.setting for row in differences("albert", "bert")}


def test_sizes_of_one_family_and_of_two_are_compared():
    assert differences("bert:base", "bert") == []
    told = {row.setting: row.values for row in differences("bert:large", "roberta:large")}
    assert told["embeddings.position_offset"] == ("0", "2")
    assert "width" not in told
    assert [row.setting for row in differences("bert:tiny", "bert:mini")][:3] == ["width", "layers", "embeddings.width"]
    with pytest.raises(BothwaysError, match="has no size 'huge'"):
        named("albert:huge")
    with pytest.raises(BothwaysError, match="did you mean 'albert'"):
        named("albrt:base")


@pytest.mark.parametrize("name", families())
def test_every_setting_has_a_meaning(name):
    config = family(name).size().derive(convolution=ConvolutionConfig(kernel=3))
    assert settings(config).keys() <= meanings(config).keys()
    assert {field.name for field in fields(EncoderConfig)} >= {key.partition(".")[0] for key in settings(config)}


# -- checkpoints


def test_the_checkpoints_that_people_ask_for_are_known():
    hubs = " ".join(one.hub.lower() for one in CHECKPOINTS)
    for wanted in ("scibert", "biobert", "clinicalbert", "biomedbert", "legal-bert", "finbert", "multilingual-cased"):
        assert wanted in hubs
    for wanted in ("all-minilm-l6-v2", "all-minilm-l12-v2", "all-mpnet-base-v2", "paraphrase-multilingual-minilm"):
        assert wanted in hubs
    published = {name for name, members in families().items() if members.is_published}
    assert {one.family for one in CHECKPOINTS} == published


def test_checkpoints_agree_with_the_families_they_name():
    assert len({one.hub for one in CHECKPOINTS}) == len({one.name for one in CHECKPOINTS}) == len(CHECKPOINTS)
    for one in CHECKPOINTS:
        assert re.fullmatch(r"[\w-]+/[\w.-]+", one.hub)
        assert not one.size or one.size in family(one.family).sizes
        assert one.licence.split(" (")[0] in ("Apache-2.0", "MIT", "CC-BY-SA-4.0", UNSTATED)
        assert one.trained_on[0].strip()


def test_checkpoints_agree_with_their_published_configurations(tmp_path):
    """Those whose ``config.json`` is among the tests: family, vocabulary, and the shape of the size."""
    known = {name.split("/")[-1]: said[0] for name, said in test_published_configs.PUBLISHED.items()}
    met = 0
    for one in CHECKPOINTS:
        published = known.get(one.hub.split("/")[-1])
        if published is None:
            continue
        met += 1
        assert (one.family, one.vocabulary) == (published.get("model_type", "bert"), published["vocab_size"])
        shape = (published["num_hidden_layers"], published["hidden_size"], published["num_attention_heads"])
        sizes = family(one.family).sizes.items()
        fits = [name for name, size in sizes if (size.layers, size.width, size.attention.heads) == shape]
        assert one.size in fits if one.size else not fits
    assert met >= 18


# -- the command


@pytest.fixture
def said(capsys):
    def run(*typed):
        capsys.readouterr()
        return main(list(typed)), *capsys.readouterr()

    return run


def test_families_are_told_to_machines(said):
    (albert,) = json.loads(said("families", "albert", "--json")[1])
    assert albert["sizes"]["xlarge"]["parameters"] == 58_724_864
    assert albert["sizes"]["xlarge"]["stated_millions"] == 60
    assert ("blocks", "12", "1") in [(row["setting"], row["a"], row["b"]) for row in albert["differences"]]
    both = json.loads(said("families", "--diff", "bert:base", "roberta:base", "--json")[1])
    assert "embeddings.position_offset" in [row["setting"] for row in both["differences"]]
    listed = json.loads(said("families", "--checkpoints", "--json")[1])
    assert ("SciBERT", 31_090) in [(one["name"], one["vocabulary"]) for one in listed]
    assert {one["family"] for one in json.loads(said("families", "mpnet", "--checkpoints", "--json")[1])} == {"mpnet"}


@pytest.mark.parametrize("typed", ["", "--checkpoints"])
def test_a_table_is_the_same_in_markdown(said, typed):
    """A cell that is too wide for the screen goes on below, so there letters alone are compared."""
    plain, marked = said("families", *typed.split())[1], said("families", *typed.split(), "--markdown")[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in marked.splitlines() if line.startswith("|")]
    assert len({len(row) for row in cells}) == 1
    words = [word for row in (cells[0], *cells[2:]) for cell in row for word in cell.split()]
    if not typed:
        assert words == plain.partition("\n\n")[0].split()
    assert sorted("".join(words)) == sorted("".join(plain.partition("\n\n")[0].split()))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("families --diff bert", "2 arguments"),
        ("families --diff bert berd", "did you mean 'bert'"),
        ("families --diff bert roberta:huge", "has no size 'huge'"),
        ("families bert --diff bert roberta", "--diff stands alone"),
        ("families bert --markdown", "--markdown prints the tables"),
    ],
)
def test_a_mistake_is_one_sentence(said, typed, told):
    status, out, err = said(*typed.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_narrow_terminal_gets_the_figures_and_a_page_gets_everything(said, monkeypatch):
    monkeypatch.setattr("bothways.cli.output.room", lambda: 80)
    shown = said("families")[1].splitlines()[0].split()
    assert {"family", "size", "parameters", "layers", "width", "heads", "speed"} <= set(shown)
    assert not {"paper", "year", "tokenizer"} & set(shown)
    assert said("families", "--markdown")[1].startswith("| family | year | paper |")
