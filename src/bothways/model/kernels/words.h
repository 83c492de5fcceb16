/* What all kernels share: a product of small matrices, layouts, kinds of numbers, chance, threads.

   Everything is counted in words of 32 bits: a word is one float32, or a pair of bfloat16 or int16, or four bytes, that are
   neighbours in the dimension that is summed over. */

#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define ROWS 6   /* of queries that are computed at once */
#define BLOCKS 4 /* of 16 columns: 6 x 4 sums fill the registers */
#define LANES 16
#define PART 384 /* words of SHORTS that are summed in 32 bits */
#define INLINE static inline __attribute__((always_inline))

/* kinds of numbers: a word is one, a pair, four bytes, a pair of int16; and float16, which is kept but not multiplied */
enum { FLOAT32, BFLOAT16, LEVELS, SHORTS, FLOAT16 };

/* sums of LEVELS, bytes of 0 .. 255 times bytes of -128 .. 127, and of SHORTS are whole numbers */
INLINE __m512 multiply_add(__m512 sum, __m512i a, __m512i b, const int kind) {
#ifdef __AVX512BF16__
    if (kind == BFLOAT16)
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
#ifdef __AVX512VNNI__
    if (kind == LEVELS)
        return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), a, b));
    if (kind == SHORTS)
        return _mm512_castsi512_ps(_mm512_dpwssd_epi32(_mm512_castps_si512(sum), a, b));
#endif
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}

/* c[rows][16 * blocks] = a[rows][steps] * b[blocks][steps][16], all in words */
INLINE void product(const int kind, const int rows, const int blocks, const uint32_t *a, int64_t a_row, const uint32_t *b,
                    int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    __m512 sums[ROWS][BLOCKS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < blocks; j++)
            sums[r][j] = _mm512_setzero_ps();
    for (int64_t s = 0; s < steps; s++) {
        __m512i columns[BLOCKS];
#pragma GCC unroll 8
        for (int j = 0; j < blocks; j++)
            columns[j] = _mm512_loadu_si512(b + s * b_step + j * b_block);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const __m512i one = _mm512_set1_epi32((int)a[r * a_row + s]);
#pragma GCC unroll 8
            for (int j = 0; j < blocks; j++)
                sums[r][j] = multiply_add(sums[r][j], one, columns[j], kind);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < blocks; j++)
            _mm512_storeu_ps(c + r * c_row + j * LANES, sums[r][j]);
}

#define CASE(R, J)                                                                                                     \
    case (R) * 8 + (J):                                                                                                \
        product(kind, R, J, a, a_row, b, b_step, b_block, steps, c, c_row);                                           \
        break;
#define CASES(R) CASE(R, 1) CASE(R, 2) CASE(R, 3) CASE(R, 4)

INLINE void any_products(const int kind, int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                     int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    for (int64_t first = 0; first < columns; first += BLOCKS, b += BLOCKS * b_block, c += BLOCKS * LANES) {
        const int blocks = columns - first < BLOCKS ? (int)(columns - first) : BLOCKS;
        switch (rows * 8 + blocks) { CASES(1) CASES(2) CASES(3) CASES(4) CASES(5) CASES(6) }
    }
}

/* the same for any number of rows up to ROWS and of blocks of columns */
static void products_of_words(int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                              int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    any_products(FLOAT32, rows, columns, a, a_row, b, b_step, b_block, steps, c, c_row);
}

static void products_of_pairs(int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                              int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    any_products(BFLOAT16, rows, columns, a, a_row, b, b_step, b_block, steps, c, c_row);
}

static void products_of_levels(int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                               int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    any_products(LEVELS, rows, columns, a, a_row, b, b_step, b_block, steps, c, c_row);
}

static void products_of_shorts(int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                               int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    any_products(SHORTS, rows, columns, a, a_row, b, b_step, b_block, steps, c, c_row);
}

INLINE void products(const int kind, int rows, int64_t columns, const uint32_t *a, int64_t a_row, const uint32_t *b,
                     int64_t b_step, int64_t b_block, int64_t steps, float *c, int64_t c_row) {
    (kind == SHORTS     ? products_of_shorts
     : kind == LEVELS   ? products_of_levels
     : kind == BFLOAT16 ? products_of_pairs
                        : products_of_words)(rows, columns, a, a_row, b, b_step, b_block, steps, c, c_row);
}

INLINE __m256i halves(__m512 values) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(values);
#else
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
    const __mmask16 numbers = _mm512_cmp_ps_mask(values, values, _CMP_ORD_Q);
    const __m512i whole = _mm512_mask_mov_epi32(_mm512_set1_epi32(0x7fc00000), numbers, rounded);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(whole, 16));
#endif
}

/* 2^x for x <= 0; for shares that become bfloat16 a shorter polynomial is as good */
INLINE __m512 power_of_two(const int pairs, __m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(x, whole); /* -0.5 .. 0.5 */
    __m512 sum;
    if (pairs) {
        sum = _mm512_set1_ps(9.6181291e-3f);
    } else { /* Taylor's series of 2^rest */
        sum = _mm512_set1_ps(1.5252734e-5f);
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.5403530e-4f));
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.3333558e-3f));
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(9.6181291e-3f));
    }
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(5.5504109e-2f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(2.4022651e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(6.9314718e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

/* what a normal number exceeds value's distance from 0 by chance, on one side, where `bell` is exp(-value^2 / 2);
   erf by Abramowitz and Stegun 1964, 7.1.26 */
INLINE __m512 normal_tail(__m512 value, __m512 bell) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 t =
        _mm512_div_ps(one, _mm512_fmadd_ps(_mm512_abs_ps(value), _mm512_set1_ps(0.3275911f * 0.70710678f), one));
    __m512 sum = _mm512_set1_ps(1.061405429f);
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-1.453152027f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(1.421413741f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-0.284496736f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(0.254829592f));
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(sum, t), bell), _mm512_set1_ps(0.5f));
}

/* 16 x 16 words, rows become columns */
INLINE void transposed(__m512i *r) {
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* keys[length][words] as [blocks of 16 keys][words][16] */
INLINE void turned(const uint32_t *keys, int64_t row, int64_t length, int64_t words, uint32_t *out) {
    for (int64_t first = 0; first < length; first += LANES)
        for (int64_t word = 0; word < words; word += LANES, out += LANES * LANES) {
            __m512i square[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                square[i] = first + i < length ? _mm512_loadu_si512(keys + (first + i) * row + word)
                                               : _mm512_setzero_si512();
            transposed(square);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(out + i * LANES, square[i]);
        }
}

/* values[length][width] of 16 bits as [length / 2][width] of pairs: two tokens' values in a word */
INLINE void paired(const uint16_t *values, int64_t row, int64_t length, int64_t width, uint32_t *out) {
    const __m512i zero = _mm512_setzero_si512();
    for (int64_t j = 0; j < length; j += 2)
        for (int64_t k = 0; k < width; k += LANES, out += LANES) {
            const __m512i one = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(values + j * row + k)));
            const __m512i other =
                j + 1 < length
                    ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(values + (j + 1) * row + k)))
                    : zero;
            _mm512_storeu_si512(out, _mm512_or_si512(one, _mm512_slli_epi32(other, 16)));
        }
}

/* sums of a kind as numbers */
INLINE __m512 summed(const int kind, const float *sums) {
    const __m512 found = _mm512_loadu_ps(sums);
    return kind == LEVELS || kind == SHORTS ? _mm512_cvtepi32_ps(_mm512_castps_si512(found)) : found;
}

INLINE void *at(const void *x, int kind, int64_t place) { return (uint8_t *)x + (kind == FLOAT32 ? 4 : 2) * place; }

INLINE __m512 taken(const void *x, int kind, int64_t place) {
    if (kind == FLOAT32)
        return _mm512_loadu_ps((const float *)x + place);
    const __m256i upper = _mm256_loadu_si256((const __m256i *)((const uint16_t *)x + place));
    if (kind == FLOAT16)
        return _mm512_cvtph_ps(upper);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

/* what is beyond float16 becomes the largest that it has; of NaN and a number the second is taken, so NaN stays */
INLINE __m256i narrowed(__m512 value) {
    const __m512 most = _mm512_set1_ps(65504.0f);
    value = _mm512_min_ps(most, _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), most), value));
    return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
}

INLINE void put(void *out, int kind, int64_t place, __m512 value) {
    if (kind == FLOAT32)
        _mm512_storeu_ps((float *)out + place, value);
    else
        _mm256_storeu_si256((__m256i *)((uint16_t *)out + place), kind == FLOAT16 ? narrowed(value) : halves(value));
}

/* the columns from `first` on that are there, of `length` */
INLINE __mmask16 real(int64_t first, int64_t length) {
    return length - first < LANES ? (__mmask16)((1u << (length - first)) - 1) : (__mmask16)0xffff;
}

/* 32 bits of chance for each counter (Wellons' lowbias32, with a second key between its rounds) */
INLINE __m512i chance(__m512i counter, uint64_t key) {
    __m512i x = _mm512_add_epi32(counter, _mm512_set1_epi32((int)key));
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 16)), _mm512_set1_epi32(0x7feb352d));
    x = _mm512_xor_si512(_mm512_xor_si512(x, _mm512_srli_epi32(x, 15)), _mm512_set1_epi32((int)(key >> 32)));
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32((int)0x846ca68b));
    return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}

/* the key of a part of what one seed decides (Steele, Lea and Flood 2014, SplitMix64) */
INLINE uint64_t key_of(uint64_t seed, uint64_t part) {
    uint64_t x = seed + (part + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

INLINE __m512i counted(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

/* runs the same work by several threads, which share it out among themselves */
void together(void (*run)(void *), void *work, int threads);

INLINE int64_t longest_of(const int64_t *starts, int64_t sequences) {
    int64_t most = 0;
    for (int64_t s = 0; s < sequences; s++)
        most = starts[s + 1] - starts[s] > most ? starts[s + 1] - starts[s] : most;
    return most;
}

INLINE float *room_for(int64_t floats) { return aligned_alloc(64, (4 * floats + 63) / 64 * 64); }
