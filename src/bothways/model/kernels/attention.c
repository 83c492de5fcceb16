/* Attention of each head within each sequence.

   Queries, keys and values of a token lie in rows, those of all heads one after another. Sequences lie one after another
   too, so there is no padding and no mask. Numbers are float32 or bfloat16; sums, scores and exponents are float32.
   float32 and float16 may be rounded to whole numbers of some 14 bits, each head's by its own largest. */

#include "words.h"

#define REACH 8191  /* of values that are SHORTS, */
#define WHOLE 16383 /* and of shares: then 32 bits hold the sum of their products */
#define TOGETHER 16 /* of so many tokens */
#define NORM 46340  /* of queries and keys that are SHORTS: then 32 bits hold the product of two */

typedef struct {
    const void *q, *k, *v; /* [tokens][heads][width] */
    void *out;             /* [tokens][heads][width] of `kind` */
    const int64_t *starts; /* [sequences + 1] */
    const float *bias;     /* [heads][2 * longest - 1] what a distance adds to scores, or none */
    float *logs;           /* [heads][tokens] logarithms to base 2 of the sums of exponentials, or none */
    /* `row`: from one token to the next in q, k and v, in words; in numbers where they are rounded */
    int64_t row, sequences, heads, width, longest;
    uint64_t seed;
    uint32_t threshold; /* of 2^32: what share of shares is dropped */
    float scale;
    int by, kind;     /* what is multiplied, and what `out` is: kinds of numbers */
    atomic_long next; /* of sequences times heads */
    atomic_int failed;
} work_t;

/* x[length][width] as whole numbers up to `end`; what 1 is worth, which is NaN where one of them is */
INLINE float shortened(const void *x, const int kind, int64_t row, int64_t length, int64_t width, float end,
                       uint16_t *out) {
    __m512 most = _mm512_setzero_ps();
    __mmask16 odd = 0;
    for (int64_t i = 0; i < length; i++)
        for (int64_t c = 0; c < width; c += LANES) {
            const __m512 value = taken(x, kind, i * row + c);
            most = _mm512_max_ps(most, _mm512_abs_ps(value));
            odd |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        }
    const float reach = _mm512_reduce_max_ps(most), unit = reach > 1e-30f ? reach / end : 1.0f;
    const __m512 each = _mm512_set1_ps(1.0f / unit);
    for (int64_t i = 0; i < length; i++)
        for (int64_t c = 0; c < width; c += LANES, out += LANES) {
            const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(taken(x, kind, i * row + c), each));
            _mm256_storeu_si256((__m256i *)out, _mm512_cvtsepi32_epi16(whole));
        }
    return odd ? NAN : unit;
}

/* scores[length] become exponentials, written to shares, but for those that are dropped; what the logarithm of their
   sum begins with is `highest`, and the sum comes back */
INLINE float exponentials(const int by, float *scores, int64_t length, float scale, const float *bias,
                          const uint32_t threshold, uint64_t key, int64_t counter, void *shares, float *highest) {
    const __m512 octaves = _mm512_set1_ps(1.44269504f * scale); /* in a power of e */
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int64_t j = 0; j < length; j += LANES) {
        __m512 score = _mm512_mul_ps(summed(by, scores + j), octaves);
        if (bias)
            score = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(real(j, length), bias + j), _mm512_set1_ps(1.44269504f), score);
        _mm512_storeu_ps(scores + j, score);
        most = _mm512_mask_max_ps(most, real(j, length), most, score);
    }
    *highest = _mm512_reduce_max_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < length; j += LANES) {
        const __m512 score = _mm512_sub_ps(_mm512_loadu_ps(scores + j), _mm512_set1_ps(*highest));
        __m512 raised = _mm512_maskz_mov_ps(real(j, length), power_of_two(by != FLOAT32, score));
        if (by == SHORTS) /* so that their sum is that of what is multiplied */
            raised = _mm512_roundscale_ps(_mm512_mul_ps(raised, _mm512_set1_ps(WHOLE)), _MM_FROUND_TO_NEAREST_INT);
        sum = _mm512_add_ps(sum, raised);
        if (threshold) {
            const __m512i drawn = chance(_mm512_add_epi32(_mm512_set1_epi32((int)(counter + j)), counted()), key);
            raised = _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(drawn, _mm512_set1_epi32((int)threshold)), raised);
        }
        if (by == SHORTS)
            _mm256_storeu_si256((__m256i *)((uint16_t *)shares + j), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(raised)));
        else if (by == BFLOAT16)
            _mm256_storeu_si256((__m256i *)((uint16_t *)shares + j), halves(raised));
        else
            _mm512_storeu_ps((float *)shares + j, raised);
    }
    return _mm512_reduce_add_ps(sum);
}

/* shares[rows][length] times pairs of values, both SHORTS; `sums` is room for one part of them */
INLINE void mixed_shorts(int rows, const uint32_t *shares, int64_t share_row, const uint32_t *values, int64_t length,
                         int64_t width, float *sums, float *mixed) {
    for (int64_t first = 0; first < length; first += TOGETHER) {
        const int64_t some = length - first < TOGETHER ? length - first : TOGETHER;
        products(SHORTS, rows, width / LANES, shares + first / 2, share_row, values + first / 2 * width, width, LANES,
                 (some + 1) / 2, sums, width);
        for (int64_t c = 0; c < rows * width; c += LANES) {
            const __m512 before = first ? _mm512_loadu_ps(mixed + c) : _mm512_setzero_ps();
            _mm512_storeu_ps(mixed + c, _mm512_add_ps(before, summed(SHORTS, sums + c)));
        }
    }
}

/* one head of one sequence */
INLINE void mixed_head(const int by, const int kind, const work_t *work, int64_t sequence, int64_t head,
                       int64_t columns, float *room) {
    const int64_t width = work->width, model = work->heads * width, longest = work->longest, row = work->row;
    const int64_t words = by == FLOAT32 ? width : width / 2, tokens = work->starts[work->sequences];
    const int64_t start = work->starts[sequence], length = work->starts[sequence + 1] - start;
    const int64_t share_row = by == FLOAT32 ? columns : columns / 2, blocks = (length + LANES - 1) / LANES;
    const int64_t place = by == SHORTS ? 0 : start * row + head * words;
    const uint32_t *q = (const uint32_t *)work->q + place, *k = (const uint32_t *)work->k + place,
                   *v = (const uint32_t *)work->v + place;
    float *scores = room, *mixed = scores + 2 * ROWS * columns, *some = mixed + ROWS * width;
    uint32_t *shares = (uint32_t *)(scores + ROWS * columns), *keys = (uint32_t *)(some + ROWS * width);
    uint32_t *pair_values = keys + columns * words, *whole = pair_values + columns * words;
    const float *bias = work->bias ? work->bias + head * (2 * longest - 1) + longest - 1 : 0;
    const uint64_t key = key_of(work->seed, sequence * work->heads + head);
    const float kept = work->threshold ? 1.0f - (float)work->threshold * 0x1p-32f : 1.0f;
    float scale = work->scale, unit = 1.0f; /* of a product of query and key, and of a value */
    int64_t q_row = row;
    const float end = floorf(NORM / sqrtf((float)width));

    if (by == SHORTS) {
        const int64_t number = start * row + head * width;
        scale *= shortened(at(work->k, kind, number), kind, row, length, width, end, (uint16_t *)whole);
        turned(whole, words, length, words, keys);
        unit = shortened(at(work->v, kind, number), kind, row, length, width, REACH, (uint16_t *)whole);
        paired((const uint16_t *)whole, width, length, width, pair_values);
        scale *= shortened(at(work->q, kind, number), kind, row, length, width, end, (uint16_t *)whole);
        q = whole, q_row = words;
    } else {
        turned(k, row, length, words, keys);
        if (by == BFLOAT16)
            paired((const uint16_t *)v, 2 * row, length, width, pair_values);
    }
    for (int64_t first = 0; first < length; first += ROWS) {
        const int rows = length - first < ROWS ? (int)(length - first) : ROWS;
        float sums[ROWS], highest;
        products(by, rows, blocks, q + first * q_row, q_row, keys, LANES, LANES * words, words, scores, columns);
        for (int r = 0; r < rows; r++) {
            sums[r] = exponentials(by, scores + r * columns, length, scale, bias ? bias - (first + r) : 0,
                                   work->threshold, key, (first + r) * length, shares + r * share_row, &highest);
            if (work->logs)
                work->logs[head * tokens + start + first + r] = highest + log2f(sums[r]);
        }
        if (by == SHORTS)
            mixed_shorts(rows, shares, share_row, pair_values, length, width, some, mixed);
        else if (by == BFLOAT16)
            products(BFLOAT16, rows, width / LANES, shares, share_row, pair_values, width, LANES, (length + 1) / 2,
                     mixed, width);
        else
            products(FLOAT32, rows, width / LANES, shares, share_row, v, row, LANES, length, mixed, width);
        for (int r = 0; r < rows; r++) {
            const __m512 part = _mm512_set1_ps(unit / (sums[r] * kept));
            for (int64_t c = 0; c < width; c += LANES)
                put(work->out, kind, (start + first + r) * model + head * width + c,
                    _mm512_mul_ps(_mm512_loadu_ps(mixed + r * width + c), part));
        }
    }
}

static void worked(void *given) {
    work_t *work = given;
    const int64_t tasks = work->sequences * work->heads, width = work->width;
    const int64_t columns = (longest_of(work->starts, work->sequences) + LANES - 1) / LANES * LANES;
    float *room = room_for(2 * ROWS * (columns + width) + 2 * columns * width);
    if (!room) {
        work->failed = 1;
        return;
    }
    for (int64_t task; (task = work->next++) < tasks;)
        if (work->by == SHORTS && work->kind == FLOAT16)
            mixed_head(SHORTS, FLOAT16, work, task / work->heads, task % work->heads, columns, room);
        else if (work->by == SHORTS)
            mixed_head(SHORTS, FLOAT32, work, task / work->heads, task % work->heads, columns, room);
        else if (work->by == BFLOAT16)
            mixed_head(BFLOAT16, BFLOAT16, work, task / work->heads, task % work->heads, columns, room);
        else
            mixed_head(FLOAT32, FLOAT32, work, task / work->heads, task % work->heads, columns, room);
    free(room);
}

/* softmax(scale q k + bias) v, shares dropped; 0 where it was done. `by` is what q, k and v are, or SHORTS that are made of them */
int attention(const void *q, const void *k, const void *v, int64_t row, int by, void *out, int kind,
              const int64_t *starts, int64_t sequences, int64_t heads, int64_t width, float scale, const float *bias,
              int64_t longest, float *logs, uint64_t seed, uint32_t threshold, int threads) {
    work_t work = {.q = q, .k = k, .v = v, .row = by == BFLOAT16 ? row / 2 : row, .by = by, .out = out, .kind = kind,
                   .starts = starts, .sequences = sequences, .heads = heads, .width = width, .scale = scale,
                   .bias = bias, .longest = longest, .logs = logs, .seed = seed,
                   .threshold = threshold};
    together(worked, &work, threads);
    return work.failed;
}
