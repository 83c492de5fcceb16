/* The gradient of attention: from that of what came out to those of queries, keys and values.

   It goes by keys: scores are made the other way round, [keys][queries], so that what a key and its value get is summed
   in one product. What the queries get needs them the first way round, and so they are turned in squares (after Dao et
   al. 2022, FlashAttention, appendix B). */

#include "words.h"

typedef struct {
    const void *q, *k, *v;  /* [tokens][heads][width], `row` words apart */
    const void *out, *gout; /* [tokens][heads][width], and its gradient */
    void *gq, *gk, *gv;     /* [tokens][heads][width] */
    const int64_t *starts;  /* [sequences + 1] */
    const float *logs;      /* [heads][tokens] as attention wrote them */
    int64_t row, sequences, heads, width;
    uint64_t seed;
    uint32_t threshold;
    float scale;
    int pairs;
    atomic_long next; /* of sequences times heads */
    atomic_int failed;
} work_t;

INLINE void kept_row(const int pairs, void *out, int64_t place, __m512 values) {
    if (pairs)
        _mm256_storeu_si256((__m256i *)((uint16_t *)out + place), halves(values));
    else
        _mm512_storeu_ps((float *)out + place, values);
}

/* rows of `from` [length][columns] become columns: [16][steps] words, of the 16 columns from `first` on */
INLINE void flipped(const int pairs, const void *from, int64_t columns, int64_t length, int64_t first, uint32_t *pair_room,
                    uint32_t *out, int64_t steps) {
    const uint32_t *words = (const uint32_t *)from + first;
    int64_t row = columns;
    if (pairs) {
        paired((const uint16_t *)from + first, columns, length, LANES, pair_room);
        words = pair_room, row = LANES;
    }
    const int64_t rows = pairs ? (length + 1) / 2 : length;
    for (int64_t j = 0; j < rows; j += LANES) {
        __m512i square[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            square[i] = j + i < rows ? _mm512_loadu_si512(words + (j + i) * row) : _mm512_setzero_si512();
        transposed(square);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(out + i * steps + j, square[i]);
    }
}

INLINE void head_gradient(const int pairs, const work_t *work, int64_t sequence, int64_t head, int64_t most, float *room) {
    const int64_t width = work->width, model = work->heads * width, row = work->row;
    const int64_t words = pairs ? width / 2 : width, out_row = pairs ? model / 2 : model;
    const int64_t tokens = work->starts[work->sequences];
    const int64_t start = work->starts[sequence], length = work->starts[sequence + 1] - start;
    const int64_t blocks = (length + LANES - 1) / LANES, columns = blocks * LANES;
    const int64_t line = pairs ? columns / 2 : columns, steps = pairs ? (length + 1) / 2 : length;
    const int64_t place = start * row + head * words, out_place = start * out_row + head * words;
    const uint32_t *q = (const uint32_t *)work->q + place, *k = (const uint32_t *)work->k + place,
                   *v = (const uint32_t *)work->v + place, *g = (const uint32_t *)work->gout + out_place;
    const int kind = pairs ? BFLOAT16 : FLOAT32;
    const float *logs = work->logs + head * tokens + start;
    const uint64_t key = key_of(work->seed, sequence * work->heads + head);
    const float more = work->threshold ? 1.0f / (1.0f - (float)work->threshold * 0x1p-32f) : 1.0f;
    const __m512i limit = _mm512_set1_epi32((int)work->threshold);

    float *scores = room, *pulls = scores + ROWS * most, *dots = pulls + ROWS * most, *sums = dots + most;
    uint32_t *shares = (uint32_t *)(sums + ROWS * width), *slopes = shares + ROWS * most;
    uint32_t *turned_q = slopes + most * most, *turned_g = turned_q + most * words, *pair_q = turned_g + most * words;
    uint32_t *pair_g = pair_q + most * width, *pair_k = pair_g + most * width, *pair_room = pair_k + most * width;
    uint32_t *flips = pair_room + most * LANES;

    for (int64_t i = 0; i < length; i++) { /* what came out, times its gradient */
        __m512 sum = _mm512_setzero_ps();
        for (int64_t c = 0; c < width; c += LANES) {
            const int64_t at = (start + i) * model + head * width + c;
            sum = _mm512_fmadd_ps(taken(work->out, kind, at), taken(work->gout, kind, at), sum);
        }
        dots[i] = _mm512_reduce_add_ps(sum);
    }
    turned(q, row, length, words, turned_q);
    turned(g, out_row, length, words, turned_g);
    if (pairs) {
        paired((const uint16_t *)q, 2 * row, length, width, pair_q);
        paired((const uint16_t *)g, 2 * out_row, length, width, pair_g);
        paired((const uint16_t *)k, 2 * row, length, width, pair_k);
    }
    const uint32_t *by_q = pairs ? pair_q : q, *by_g = pairs ? pair_g : g, *by_k = pairs ? pair_k : k;
    const int64_t q_step = pairs ? width : row, g_step = pairs ? width : out_row;

    for (int64_t first = 0; first < length; first += ROWS) {
        const int rows = length - first < ROWS ? (int)(length - first) : ROWS;
        products(pairs, rows, blocks, k + first * row, row, turned_q, LANES, LANES * words, words, scores, columns);
        products(pairs, rows, blocks, v + first * row, row, turned_g, LANES, LANES * words, words, pulls, columns);
        for (int r = 0; r < rows; r++)
            for (int64_t i = 0; i < columns; i += LANES) {
                const __mmask16 there = real(i, length);
                const __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(scores + r * columns + i),
                                                     _mm512_set1_ps(1.44269504f * work->scale),
                                                     _mm512_maskz_loadu_ps(there, logs + i));
                const __m512 share = _mm512_maskz_mov_ps(there, power_of_two(pairs, score));
                __m512 pull = _mm512_mul_ps(_mm512_loadu_ps(pulls + r * columns + i), _mm512_set1_ps(more));
                __m512 left = share;
                if (work->threshold) { /* a query's row, a key's column, as attention counted them */
                    const __m512i place = _mm512_add_epi32(_mm512_set1_epi32((int)i), counted());
                    const __m512i counter = _mm512_add_epi32(_mm512_mullo_epi32(place, _mm512_set1_epi32((int)length)),
                                                             _mm512_set1_epi32((int)(first + r)));
                    const __mmask16 kept = _mm512_cmpge_epu32_mask(chance(counter, key), limit);
                    left = _mm512_maskz_mov_ps(kept, left);
                    pull = _mm512_maskz_mov_ps(kept, pull);
                }
                const __m512 slope = _mm512_mul_ps(share, _mm512_sub_ps(pull, _mm512_maskz_loadu_ps(there, dots + i)));
                kept_row(pairs, shares + r * line, i, left);
                kept_row(pairs, slopes + (first + r) * line, i, _mm512_maskz_mov_ps(there, slope));
            }
        products(pairs, rows, width / LANES, shares, line, by_g, g_step, LANES, steps, sums, width);
        for (int r = 0; r < rows; r++)
            for (int64_t c = 0; c < width; c += LANES)
                put(work->gv, kind, (start + first + r) * model + head * width + c,
                    _mm512_mul_ps(_mm512_loadu_ps(sums + r * width + c), _mm512_set1_ps(more)));
        products(pairs, rows, width / LANES, slopes + first * line, line, by_q, q_step, LANES, steps, sums, width);
        for (int r = 0; r < rows; r++)
            for (int64_t c = 0; c < width; c += LANES)
                put(work->gk, kind, (start + first + r) * model + head * width + c,
                    _mm512_mul_ps(_mm512_loadu_ps(sums + r * width + c), _mm512_set1_ps(work->scale)));
    }
    for (int64_t first = 0; first < length; first += LANES) {
        flipped(pairs, slopes, columns, length, first, pair_room, flips, columns);
        for (int64_t at = first; at < first + LANES && at < length; at += ROWS) {
            const int64_t end = first + LANES < length ? first + LANES : length;
            const int rows = end - at < ROWS ? (int)(end - at) : ROWS;
            products(pairs, rows, width / LANES, flips + (at - first) * columns, columns, by_k, q_step, LANES, steps, sums,
                     width);
            for (int r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c += LANES)
                    put(work->gq, kind, (start + at + r) * model + head * width + c,
                        _mm512_mul_ps(_mm512_loadu_ps(sums + r * width + c), _mm512_set1_ps(work->scale)));
        }
    }
}

static void worked(void *given) {
    work_t *work = given;
    const int64_t tasks = work->sequences * work->heads, width = work->width;
    const int64_t most = (longest_of(work->starts, work->sequences) + LANES - 1) / LANES * LANES;
    float *room = room_for(3 * ROWS * most + most + ROWS * width + most * most + 5 * most * width + 2 * most * LANES);
    if (!room) {
        work->failed = 1;
        return;
    }
    for (int64_t task; (task = work->next++) < tasks;)
        if (work->pairs)
            head_gradient(1, work, task / work->heads, task % work->heads, most, room);
        else
            head_gradient(0, work, task / work->heads, task % work->heads, most, room);
    free(room);
}

/* 0 where it was done */
int attention_gradient(const void *q, const void *k, const void *v, int64_t row, int pairs, const void *out,
                       const void *gout, void *gq, void *gk, void *gv, const int64_t *starts, int64_t sequences,
                       int64_t heads, int64_t width, float scale, const float *logs, uint64_t seed, uint32_t threshold,
                       int threads) {
    work_t work = {.q = q, .k = k, .v = v, .row = pairs ? row / 2 : row, .pairs = pairs, .out = out, .gout = gout,
                   .gq = gq, .gk = gk, .gv = gv, .starts = starts, .sequences = sequences, .heads = heads,
                   .width = width, .scale = scale, .logs = logs, .seed = seed, .threshold = threshold};
    together(worked, &work, threads);
    return work.failed;
}
