"""What DeBERTa is pre-trained with: the enhanced mask decoder, and tables that a discriminator only builds on."""

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.disentangled_tables import disentangle_tables, merged
from bothways.model.families import family
from bothways.model.heads.enhanced_mask_decoder import decode
from bothways.run.folder import Saved, read_folder, write_folder
from test_deberta import BOTH, ids, random_encoder
from test_families import rectangle, theirs_of

# -- enhanced mask decoder


def plain_decoder(encoder, memory_LD):
    """One sequence, from the paper's words: the last block twice, keys and values stay, the query goes on."""
    block, settings = encoder.stack.blocks[-1], encoder.config.attention
    attention, width, heads = block.attention, encoder.config.width, settings.heads
    length, size, middle = len(memory_LD), width // heads, settings.max_distance
    table = encoder.scheme.table.weight

    def of_head(x, head):
        return x[:, head * size : (head + 1) * size]

    def project(x):
        rows = attention.fused.weight.view(heads, 3, size, width)
        q, k, v = (x @ rows[:, part].reshape(width, width).T for part in range(3))
        return q + attention.query_bias, k, v + attention.value_bias

    _, k, v = project(memory_LD)
    query = memory_LD + encoder.embeddings.positions.weight[:length]
    for _ in range(2):
        q, mixed = project(query)[0], []
        for head in range(heads):
            scores = of_head(q, head) @ of_head(k, head).T
            to_distance = of_head(q, head) @ of_head(attention.position_key(table), head).T
            from_distance = of_head(k, head) @ of_head(attention.position_query(table), head).T
            rows = [[i - j + middle for j in range(length)] for i in range(length)]
            for i in range(length):
                for j in range(length):
                    scores[i, j] += to_distance[i, rows[i][j]] + from_distance[j, rows[i][j]]
            mixed.append((scores / (3 * size) ** 0.5).softmax(-1) @ of_head(v, head))
        query = block.attention_norm(query + attention.output(torch.cat(mixed, 1)))
        query = block.feed_forward_norm(query + block.feed_forward(query))
    return query


@torch.no_grad()
def test_the_decoder_is_what_the_paper_says():
    encoder = random_encoder("deberta", embeddings__positions=60)
    batch = make_batch(ids((11, 1, 30)))
    out = encoder(batch, hidden=True)
    found = decode(encoder, out, batch)
    for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        assert (found[start:end] - plain_decoder(encoder, out.hidden[-2][start:end])).abs().max() < 1e-5
    assert (found - out.sequence).abs().max() > 0.1


@torch.no_grad()
def test_the_decoder_is_their_last_layer_asked_twice():
    """`transformers` has no such head, but its layer takes queries of their own."""
    config = tiny.config("deberta-v2", embeddings__positions=60)
    theirs = theirs_of(config.derive(embeddings__positions=0), "DebertaV2Model")
    encoder = random_encoder("deberta-v2", embeddings__positions=60)
    state = {family("deberta-v2").names.ours(key): value for key, value in theirs.state_dict().items()}
    missing, _ = encoder.load_state_dict(
        {key.removeprefix("encoder."): state[key] for key in state if key}, strict=False
    )
    assert missing == ["embeddings.positions.weight"]
    inputs = rectangle(config, (20, 7))
    batch = pack(**inputs)
    found = unpack(decode(encoder, encoder(batch, hidden=True), batch), batch)
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    memory = theirs(**tensors, output_hidden_states=True).hidden_states[-2]
    mask = theirs.encoder.get_attention_mask(tensors["attention_mask"])
    query = memory + encoder.embeddings.positions.weight[:20]
    for _ in range(2):
        query = theirs.encoder.layer[-1](
            memory,
            mask,
            query_states=query,
            relative_pos=theirs.encoder.get_rel_pos(memory),
            rel_embeddings=theirs.encoder.get_rel_embedding(),
        )[0]
    real = tensors["attention_mask"].bool()
    assert (found[real] - query[real]).abs().max() < 1e-5


@pytest.mark.parametrize("name", [*BOTH, "bert", "mpnet"])
@torch.no_grad()
def test_decoding_some_places_gives_what_decoding_all_gives_there(name):
    encoder = random_encoder(name, embeddings__positions=60)
    texts = ids((12, 3, 40, 12))
    batch = make_batch(texts)
    out = encoder(batch, hidden=True)
    places = torch.tensor([0, 2, 3, 17, 30, len(batch.token_ids) - 1])
    all_of_them = decode(encoder, out, batch)
    assert (decode(encoder, out, batch, places) - all_of_them[places]).abs().max() < 1e-5
    assert len(decode(encoder, out, batch, places[:0])) == 0
    for row, start, end in zip(batch.rows, batch.starts[:-1], batch.starts[1:], strict=True):
        one = make_batch([texts[row]])
        alone = decode(encoder, encoder(one, hidden=True), one)
        assert (alone - all_of_them[start:end]).abs().max() < 1e-5


@pytest.mark.parametrize("name", BOTH)
def test_a_loss_on_decoded_places_reaches_all_that_it_should(name):
    """The table of positions up to the last place scored, and every parameter of encoder and head."""
    config = tiny.config(name, embeddings__positions=60)
    encoder, head = build_encoder(config).train(), build_head(tiny.head(name, "mlm"), config).train()
    tiny.randomise(encoder), tiny.randomise(head)
    batch = make_batch(ids((30, 9)))
    places = torch.tensor([1, 4, 9, 20])  # of the second text, which comes first, and of the other
    loss, _ = head.loss(
        decode(encoder, encoder(batch, hidden=True), batch, places), encoder.token_table, torch.tensor([7, 8, 9, 7])
    )
    loss.backward()
    gradient = encoder.embeddings.positions.weight.grad.abs().sum(1)
    scored = torch.from_numpy(batch.positions)[places]
    assert torch.equal(gradient.nonzero().flatten(), scored.unique())
    for key, value in torch.nn.ModuleDict({"encoder": encoder, "mlm": head}).named_parameters():
        assert value.grad is not None, key
        assert value.grad.abs().max() > 0 or key.endswith("key.bias"), key


def test_positions_that_begin_after_the_padding_id_are_read_there():
    encoder = random_encoder("mpnet", embeddings__positions=60, embeddings__positions_added=False, max_length=58)
    batch = make_batch(ids((9, 4)))
    decode(encoder, encoder(batch, hidden=True), batch).square().sum().backward()
    assert encoder.embeddings.positions.weight.grad.abs().sum(1).nonzero().flatten().tolist() == list(range(2, 11))


def test_the_decoder_in_bf16():
    encoder = random_encoder("deberta", embeddings__positions=60)
    batch = make_batch(ids((30, 9)))
    with torch.no_grad():
        exact = decode(encoder, encoder(batch, hidden=True), batch)
        with torch.autocast("cpu", torch.bfloat16):
            close = decode(encoder, encoder(batch, hidden=True), batch)
    assert torch.nn.functional.cosine_similarity(exact, close.float()).min() > 0.99


@pytest.mark.parametrize(
    ("name", "changes", "hidden", "words"),
    [
        ("deberta", {}, True, "no table of them; build it with embeddings__positions=512"),
        ("deberta", {"embeddings__positions": 20}, True, "30 tokens, but the table .* has 20 positions"),
        ("deberta", {"embeddings__positions": 60}, False, "hidden=True"),
        ("deberta", {"embeddings__positions": 60, "norm": "pre"}, True, "post-norm"),
        ("deberta", {"embeddings__positions": 60, "embeddings__width": 24}, True, "as wide as the encoder"),
        ("longformer", {"embeddings__positions": 600}, True, "attention of the kind"),
    ],
)
def test_what_the_decoder_cannot_read_is_refused(name, changes, hidden, words):
    encoder = random_encoder(name, **changes)
    batch = make_batch(ids((30, 9)))
    with pytest.raises(BothwaysError, match=words):
        decode(encoder, encoder(batch, hidden=hidden), batch)


# -- disentangled tables


def pair(positions=60):
    config = tiny.config("deberta-v2", embeddings__positions=positions)
    generator, discriminator = build_encoder(config.derive(layers=1)), build_encoder(config)
    tiny.randomise(generator, 1), tiny.randomise(discriminator, 2)
    head = tiny.randomise(build_head(tiny.head("deberta-v2", "rtd"), config), 3)
    return generator.eval(), discriminator.eval(), head.eval()


def test_the_discriminator_begins_with_its_generators_tables():
    generator, discriminator, _ = pair()
    disentangle_tables(generator, discriminator)
    for name in ("tokens", "positions"):
        assert torch.equal(getattr(discriminator.embeddings, name).weight, getattr(generator.embeddings, name).weight)
    names = {name for name, _ in discriminator.named_parameters() if name.startswith("embeddings.")}
    assert {"embeddings.tokens.own.weight", "embeddings.positions.own.weight"} <= names
    assert not {id(value) for value in generator.parameters()} & {id(value) for value in discriminator.parameters()}


def test_the_discriminators_gradient_never_reaches_the_generator():
    generator, discriminator, head = pair()
    disentangle_tables(generator, discriminator)
    batch = make_batch([np.arange(1, 20)])
    out = discriminator(batch, hidden=True)
    (head(out).sum() + decode(discriminator, out, batch).sum() + discriminator.token_table.sum()).backward()
    assert all(value.grad is None for value in generator.parameters())
    for table in (discriminator.embeddings.tokens, discriminator.embeddings.positions):
        assert table.own.weight.grad[1:19].abs().min(1).values.max() > 0


def test_the_discriminator_follows_what_its_generator_learns():
    generator, discriminator, _ = pair()
    disentangle_tables(generator, discriminator)
    torch.nn.init.normal_(discriminator.embeddings.tokens.own.weight)
    batch = make_batch([np.arange(1, 20)])
    before, own = discriminator(batch).sequence, discriminator.embeddings.tokens.own.weight.detach().clone()
    loss = torch.nn.functional.cross_entropy(generator(batch).sequence @ generator.token_table.t(), torch.arange(1, 20))
    loss.backward()
    torch.optim.SGD([*generator.parameters(), *discriminator.parameters()], lr=1.0).step()
    assert torch.equal(discriminator.embeddings.tokens.own.weight, own)
    assert torch.equal(discriminator.token_table, generator.token_table + own)
    assert not torch.equal(discriminator(batch).sequence, before)


def test_merged_tables_give_the_same_bits_and_open_elsewhere(tmp_path):
    generator, discriminator, head = pair()
    disentangle_tables(generator, discriminator)
    for name in ("tokens", "positions"):
        torch.nn.init.normal_(getattr(discriminator.embeddings, name).own.weight)
    batch = make_batch(ids((20, 5)))
    with torch.no_grad():
        out = discriminator(batch, hidden=True)
        plain = merged(discriminator)
        assert torch.equal(plain(batch).sequence, out.sequence)
        assert torch.equal(decode(plain, plain(batch, hidden=True), batch), decode(discriminator, out, batch))
        assert "embeddings.tokens.own.weight" in discriminator.state_dict(), "the one in training is left as it is"
        rest = dict(discriminator.named_parameters())
        shared = [key for key, value in plain.named_parameters() if value is rest.get(key)]
        assert len(shared) == len(rest) - 2

        saved = Saved(
            encoder=plain, heads={"rtd": head}, head_configs={"rtd": tiny.head("deberta-v2", "rtd")}, tokenizer=None
        )
        write_folder(saved, tmp_path / "model")
        again = read_folder(tmp_path / "model")
        assert torch.equal(again.encoder(batch).sequence, out.sequence)
        assert torch.equal(again.heads["rtd"](again.encoder(batch)), head(out))
        theirs = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
        token_ids = torch.from_numpy(batch.token_ids[batch.starts[0] : batch.starts[1]])[None]
        found = theirs(token_ids).last_hidden_state[0]
        assert (found - out.sequence[batch.starts[0] : batch.starts[1]]).abs().max() < 1e-5


def test_a_run_goes_on_from_its_state_bit_by_bit():
    generator, discriminator, _ = pair()
    disentangle_tables(generator, discriminator)
    torch.nn.init.normal_(discriminator.embeddings.tokens.own.weight)
    other, again, _ = pair()
    disentangle_tables(other, again)
    other.load_state_dict(generator.state_dict())
    again.load_state_dict(discriminator.state_dict())
    batch = make_batch(ids((20, 5)))
    assert torch.equal(again(batch).sequence, discriminator(batch).sequence)


def test_without_positions_only_tokens_are_shared():
    generator, discriminator, _ = pair(positions=0)
    disentangle_tables(generator, discriminator)
    assert discriminator.embeddings.positions is None
    assert torch.equal(merged(discriminator).token_table, generator.token_table)


def test_tables_that_do_not_fit_are_refused_and_left_alone():
    generator, discriminator = (random_encoder("deberta-v2", embeddings__vocab_size=size) for size in (211, 212))
    with pytest.raises(BothwaysError, match=r"embeddings\.tokens: that has 211 × 48 numbers, its own 212 × 48"):
        disentangle_tables(generator, discriminator)
    assert isinstance(discriminator.embeddings.tokens, torch.nn.Embedding)
