"""How BERT cleans a text and splits it into words, before any vocabulary is used.

Source: BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) and the tokenizer published with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The settings of BERT's normalisation; the defaults are those of the uncased models.

    Attributes:
        lowercase: Whether letters become lower case.
        strip_accents: Whether combining marks are removed ("é" becomes "e"); None does as `lowercase` does.
        chinese_characters: Whether every Chinese character (Han ideograph) becomes a word of its own.
        clean_text: Whether control characters are removed and every kind of space becomes a plain one.
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    chinese_characters: bool = True
    clean_text: bool = True

    def normalizer(self) -> Normalizer:
        """The object of `tokenizers` that rewrites a text by these settings."""
        from tokenizers.normalizers import BertNormalizer

        return BertNormalizer(
            clean_text=self.clean_text,
            handle_chinese_chars=self.chinese_characters,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )

    def splitter(self) -> PreTokenizer:
        """The object of `tokenizers` that splits a text at spaces and around every punctuation mark."""
        from tokenizers.pre_tokenizers import BertPreTokenizer

        return BertPreTokenizer()

    def words(self, text: str) -> list[str]:
        """The words of `text`, normalised: the units inside which tokens are looked for."""
        return [word for word, _ in self.splitter().pre_tokenize_str(self.normalizer().normalize_str(text))]


@dataclass(frozen=True, kw_only=True)
class PlainNormalization:
    """How text is rewritten for vocabularies of other kinds that are trained here.

    Attributes:
        lowercase: Whether letters become lower case.
        strip_accents: Whether combining marks are removed; None does as `lowercase` does.
        compatible: Whether forms of the same character become one ("ﬁ" and "ｆｉ" become "fi"), control characters are
            removed and every kind and number of spaces becomes one plain space; else only equivalent spellings become
            one.
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    compatible: bool = False

    def normalizer(self) -> Normalizer:
        """The object of `tokenizers` that rewrites a text by these settings."""
        from tokenizers import Regex, normalizers

        steps: list[Normalizer] = []
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            steps += [normalizers.NFKD() if self.compatible else normalizers.NFD(), normalizers.StripAccents()]
        steps.append(normalizers.NFKC() if self.compatible else normalizers.NFC())
        if self.lowercase:
            steps.append(normalizers.Lowercase())
        if self.compatible:
            steps += [
                normalizers.Replace(Regex(r"[\x00-\x08\x0e-\x1f\x7f]"), ""),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(left=False),
            ]
        return normalizers.Sequence(steps)

    def splitter(self) -> PreTokenizer:
        """The object of `tokenizers` that splits a text at spaces; each word begins with "▁"."""
        from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit

        return Sequence([WhitespaceSplit(), Metaspace("▁", "always")])
