/* What is done to each row, or each number, by itself: norms, look-ups, rounding, dropout, the gradient of GELU. */

#include "words.h"

#define NORMED 4    /* rows that are normed at once */
#define SOME 65536 /* numbers that a thread takes at a time */

typedef struct {
    void (*run)(const void *what, int64_t first, int64_t last);
    const void *what;
    int64_t count, step;
    atomic_long next;
} spread_t;

static void spread_some(void *given) {
    spread_t *spread = given;
    for (int64_t first; (first = atomic_fetch_add(&spread->next, spread->step)) < spread->count;)
        spread->run(spread->what, first, first + spread->step < spread->count ? first + spread->step : spread->count);
}

/* runs all of `count`, `step` at a time */
static void spread(void (*run)(const void *, int64_t, int64_t), const void *what, int64_t count, int64_t step,
                   int threads) {
    spread_t work = {.run = run, .what = what, .count = count, .step = step};
    together(spread_some, &work, threads);
}

typedef struct {
    const void *x;
    uint8_t *out;
    const float *by, *shift;
    float *steps, *lows;
    const int64_t *places;
    void *few;
    int64_t width, apart;
    int kind;
} rounded_t;

INLINE __m512 ranged(const rounded_t *w, const int kind, int64_t row, int64_t c) {
    return _mm512_fmadd_ps(taken(w->x, kind, row * w->width + c), _mm512_loadu_ps(w->by + c), _mm512_loadu_ps(w->shift + c));
}

INLINE void rounded_row(const rounded_t *w, const int kind, int64_t row) {
    __m512 most = _mm512_setzero_ps(), least = _mm512_setzero_ps();
    __mmask16 odd = 0;
    for (int64_t c = 0; c < w->width; c += LANES) {
        const __m512 value = ranged(w, kind, row, c);
        odd |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        most = _mm512_max_ps(most, value);
        least = _mm512_min_ps(least, value);
    }
    const float low = _mm512_reduce_min_ps(least), reach = _mm512_reduce_max_ps(most) - low;
    const float step = reach > 0 ? reach / 255.0f : 1.0f;
    const __m512 each = _mm512_set1_ps(1.0f / step), start = _mm512_set1_ps(-low / step);
    for (int64_t c = 0; c < w->width; c += LANES) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_fmadd_ps(ranged(w, kind, row, c), each, start));
        const __m512i real = _mm512_max_epi32(whole, _mm512_setzero_si512());
        _mm_storeu_si128((__m128i *)(w->out + row * w->width + c), _mm512_cvtusepi32_epi8(real));
    }
    w->steps[row] = odd ? NAN : step; /* what is no number stays none */
    w->lows[row] = low;
    for (int64_t a = 0; a < w->apart; a++) {
        const int64_t from = row * w->width + w->places[a], to = row * w->apart + a;
        if (kind == FLOAT32)
            ((float *)w->few)[to] = ((const float *)w->x)[from];
        else if (kind == FLOAT16)
            ((float *)w->few)[to] =
                _mm_cvtss_f32(_mm_maskz_cvtph_ps(1, _mm_cvtsi32_si128(((const uint16_t *)w->x)[from])));
        else
            ((uint16_t *)w->few)[to] = ((const uint16_t *)w->x)[from];
    }
}

static void some_rounded(const void *what, int64_t first, int64_t last) {
    const rounded_t *w = what;
    for (int64_t row = first; row < last; row++)
        if (w->kind == FLOAT32)
            rounded_row(w, FLOAT32, row);
        else if (w->kind == FLOAT16)
            rounded_row(w, FLOAT16, row);
        else
            rounded_row(w, BFLOAT16, row);
}

/* x[rows][width] * by + shift as low + step * out, out within 0 .. 255; each row has its own low and step. The columns
   at `places` are also copied as they are, to few[rows][apart]; float16 as float32. */
void rounded(const void *x, int kind, const float *by, const float *shift, uint8_t *out, float *steps, float *lows,
             const int64_t *places, int64_t apart, void *few, int64_t rows, int64_t width, int threads) {
    const rounded_t what = {x, out, by, shift, steps, lows, places, few, width, apart, kind};
    spread(some_rounded, &what, rows, 1 + SOME / width, threads);
}

typedef struct {
    const void *x;
    int16_t *out;
    float *steps;
    int64_t width;
    float norm;
    int kind;
} shortened_t;

INLINE void shortened_row(const shortened_t *w, const int kind, int64_t row) {
    __m512 most = _mm512_setzero_ps();
    float sum = 0.0f; /* of squares, the largest of all parts */
    for (int64_t first = 0; first < w->width; first += 2 * PART) {
        const int64_t end = w->width - first < 2 * PART ? w->width : first + 2 * PART;
        __m512 squares = _mm512_setzero_ps();
        for (int64_t c = first; c < end; c += LANES) {
            const __m512 value = taken(w->x, kind, row * w->width + c);
            most = _mm512_max_ps(most, _mm512_abs_ps(value));
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        const float own = _mm512_reduce_add_ps(squares);
        sum = sum >= own || sum != sum ? sum : own; /* what is no number stays none */
    }
    const float reach = _mm512_reduce_max_ps(most);
    /* squares may be too small or too large to be written */
    const float norm = sum < 1e-20f || sum > 1e36f ? reach * sqrtf(2.0f * PART) : sqrtf(sum);
    const float by_size = reach / INT16_MAX, by_norm = norm / w->norm, wanted = by_size > by_norm ? by_size : by_norm;
    const float step = wanted < 1e-30f ? 1.0f : wanted;
    const __m512 each = _mm512_set1_ps(1.0f / step);
    for (int64_t c = 0; c < w->width; c += LANES) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(taken(w->x, kind, row * w->width + c), each));
        _mm256_storeu_si256((__m256i *)(w->out + row * w->width + c), _mm512_cvtsepi32_epi16(whole));
    }
    w->steps[row] = step;
}

static void some_shortened(const void *what, int64_t first, int64_t last) {
    const shortened_t *w = what;
    for (int64_t row = first; row < last; row++)
        if (w->kind == FLOAT32)
            shortened_row(w, FLOAT32, row);
        else if (w->kind == FLOAT16)
            shortened_row(w, FLOAT16, row);
        else
            shortened_row(w, BFLOAT16, row);
}

/* x[rows][width] as step * out, of 16 bits; each row has its own step, so that the norm of no part is above `norm` steps */
void shortened_rows(const void *x, int kind, int16_t *out, float *steps, float norm, int64_t rows, int64_t width,
                    int threads) {
    const shortened_t what = {x, out, steps, width, norm, kind};
    spread(some_shortened, &what, rows, 1 + SOME / width, threads);
}

/* several rows at once: what one waits for, others fill */
INLINE void normed_rows(const int rows, const int kind, const void *x, const int out_kind, void *out, int64_t width,
                        const float *gain, const float *bias, float epsilon) {
    __m512 sums[NORMED], means[NORMED], by[NORMED];
    for (int r = 0; r < rows; r++)
        sums[r] = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += LANES)
        for (int r = 0; r < rows; r++)
            sums[r] = _mm512_add_ps(sums[r], taken(x, kind, r * width + c));
    for (int r = 0; r < rows; r++) {
        means[r] = _mm512_set1_ps(_mm512_reduce_add_ps(sums[r]) / (float)width);
        sums[r] = _mm512_setzero_ps();
    }
    for (int64_t c = 0; c < width; c += LANES)
        for (int r = 0; r < rows; r++) {
            const __m512 apart = _mm512_sub_ps(taken(x, kind, r * width + c), means[r]);
            sums[r] = _mm512_fmadd_ps(apart, apart, sums[r]);
        }
    for (int r = 0; r < rows; r++)
        by[r] = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(sums[r]) / (float)width + epsilon));
    for (int64_t c = 0; c < width; c += LANES)
        for (int r = 0; r < rows; r++) {
            const int64_t at = r * width + c;
            const __m512 apart = _mm512_mul_ps(_mm512_sub_ps(taken(x, kind, at), means[r]), by[r]);
            put(out, out_kind, at, _mm512_fmadd_ps(apart, _mm512_loadu_ps(gain + c), _mm512_loadu_ps(bias + c)));
        }
}

#define NORM(KIND, OUT)                                                                                                \
    if (kind == KIND && out_kind == OUT) {                                                                             \
        if (rows == NORMED)                                                                                            \
            normed_rows(NORMED, KIND, x, OUT, out, width, gain, bias, epsilon);                                        \
        else                                                                                                           \
            for (int r = 0; r < rows; r++)                                                                             \
                normed_rows(1, KIND, at(x, KIND, r * width), OUT, at(out, OUT, r * width), width, gain, bias, epsilon); \
    }

static void norm(int rows, int kind, const void *x, int out_kind, void *out, int64_t width, const float *gain,
                 const float *bias, float epsilon) {
    NORM(FLOAT32, FLOAT32)
    NORM(FLOAT32, BFLOAT16)
    NORM(BFLOAT16, BFLOAT16)
    NORM(FLOAT32, FLOAT16)
    NORM(FLOAT16, FLOAT16)
}

typedef struct {
    const void *x;
    void *out;
    const float *gain, *bias;
    int64_t width;
    float epsilon;
    int kind;
} normed_t;

static void some_normed(const void *what, int64_t first, int64_t last) {
    const normed_t *w = what;
    for (int64_t r = first; r < last; r += NORMED)
        norm(last - r < NORMED ? (int)(last - r) : NORMED, w->kind, at(w->x, w->kind, r * w->width), w->kind,
             at(w->out, w->kind, r * w->width), w->width, w->gain, w->bias, w->epsilon);
}

/* each row of x[rows][width] less its mean, over its deviation, times gain, plus bias; of one kind in and out */
void normed(const void *x, int kind, void *out, int64_t rows, int64_t width, const float *gain, const float *bias,
            float epsilon, int threads) {
    const normed_t what = {x, out, gain, bias, width, epsilon, kind};
    spread(some_normed, &what, rows, (SOME / width + NORMED) / NORMED * NORMED, threads);
}

/* the norm of sums of rows: of each of `tables`, those that `places` name; 0 where it was done */
int looked_up(int count, const float *const *tables, const int64_t *const *places, int kind, void *out, int64_t rows,
              int64_t width, const float *gain, const float *bias, float epsilon) {
    float *sums = aligned_alloc(64, 4 * NORMED * width);
    if (!sums)
        return 1;
    for (int64_t first = 0; first < rows; first += NORMED) {
        const int some = rows - first < NORMED ? (int)(rows - first) : NORMED;
        for (int r = 0; r < some; r++)
            for (int64_t c = 0; c < width; c += LANES) {
                __m512 sum = _mm512_loadu_ps(tables[0] + places[0][first + r] * width + c);
                for (int table = 1; table < count; table++)
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(tables[table] + places[table][first + r] * width + c));
                _mm512_storeu_ps(sums + r * width + c, sum);
            }
        norm(some, FLOAT32, sums, kind, at(out, kind, first * width), width, gain, bias, epsilon);
    }
    free(sums);
    return 0;
}

typedef struct {
    const void *x;
    void *out;
    int64_t count;
    uint64_t seed;
    uint32_t threshold;
    float scale;
    int kind;
} dropped_t;

static void some_dropped(const void *what, int64_t begin, int64_t end) {
    const dropped_t *w = what;
    const __m512i limit = _mm512_set1_epi32((int)w->threshold);
    for (int64_t first = begin; first < end; first += LANES) {
        const __m512i counter = _mm512_add_epi32(_mm512_set1_epi32((int)first), counted());
        const __mmask16 kept = _mm512_cmpge_epu32_mask(chance(counter, key_of(w->seed, first >> 32)), limit);
        const __mmask16 there = real(first, w->count);
        if (w->kind == FLOAT32) {
            const __m512 value = _mm512_maskz_loadu_ps(there & kept, (const float *)w->x + first);
            _mm512_mask_storeu_ps((float *)w->out + first, there, _mm512_mul_ps(value, _mm512_set1_ps(w->scale)));
        } else {
            const __m256i upper = _mm256_maskz_loadu_epi16(there & kept, (const uint16_t *)w->x + first);
            const __m512 value = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
            _mm256_mask_storeu_epi16((uint16_t *)w->out + first, there,
                                     halves(_mm512_mul_ps(value, _mm512_set1_ps(w->scale))));
        }
    }
}

/* x[count] with some numbers set to 0 and the others multiplied by `scale`; the same ones for the same seed */
void dropped(const void *x, int kind, void *out, int64_t count, uint64_t seed, uint32_t threshold, float scale,
             int threads) {
    const dropped_t what = {x, out, count, seed, threshold, scale, kind};
    spread(some_dropped, &what, count, SOME, threads);
}

typedef struct {
    const void *x, *gradient;
    void *out;
    int kind;
} gelu_t;

static void some_gelu_gradient(const void *what, int64_t begin, int64_t end) {
    const gelu_t *w = what;
    for (int64_t first = begin; first < end; first += LANES) {
        const __m512 value = taken(w->x, w->kind, first), one = _mm512_set1_ps(1.0f);
        const __m512 octaves = _mm512_mul_ps(_mm512_mul_ps(value, value), _mm512_set1_ps(-0.72134752f));
        const __m512 bell = power_of_two(0, _mm512_max_ps(octaves, _mm512_set1_ps(-126.0f))); /* exp(-value^2 / 2) */
        const __m512 tail = normal_tail(value, bell);
        const __mmask16 below = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
        const __m512 share = _mm512_mask_mov_ps(_mm512_sub_ps(one, tail), below, tail);
        const __m512 slope = _mm512_fmadd_ps(_mm512_mul_ps(value, bell), _mm512_set1_ps(0.39894228f), share);
        put(w->out, w->kind, first, _mm512_mul_ps(taken(w->gradient, w->kind, first), slope));
    }
}

/* gradient[count] times the derivative of x's GELU; `count` is a multiple of 16 */
void gelu_gradient(const void *x, const void *gradient, int kind, void *out, int64_t count, int threads) {
    const gelu_t what = {x, gradient, out, kind};
    spread(some_gelu_gradient, &what, count, SOME, threads);
}
