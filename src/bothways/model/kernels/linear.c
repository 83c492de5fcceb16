/* Linear layers whose weights were packed: products, and all that follows them, a tile of 6 rows and 64 columns at a time.

   A packed weight is [columns / 64][steps][64] words: what one step of a sum needs lies together. */

#include "words.h"

#define PANEL (BLOCKS * LANES)
#define NEAR_BYTES 131072 /* of rows that stay in a core's own cache while all panels pass by */

enum { NOTHING, GELU, GELU_TANH, RELU };

/* what a factor and a weight are, of so many words in a row */
typedef struct {
    const uint32_t *x, *weights;
    int64_t steps;
    int kind;
} factors_t;

typedef struct {
    factors_t main, few; /* few: channels of x whose products are added to those of LEVELS; of no steps, if none */
    const float *bias;            /* [columns] */
    const float *units, *of_lows; /* [columns] of LEVELS and SHORTS: what 1 in a weight is worth; of LEVELS: their sum */
    const float *steps, *lows;    /* [rows] of LEVELS and SHORTS: what 1 in x is worth; of LEVELS: what level 0 is */
    const void *added;            /* [rows][columns] of `kind`, or none */
    void *out;                    /* [rows][columns] of `kind` */
    int64_t rows, columns, chunk;
    int kind, activation;
    atomic_long next; /* of chunks times panels */
} linear_t;

/* The share of x that GELU lets through is 0.5 + x P(x^2), and all or nothing beyond 4.2. Among the P that end there, these
   change the result least, by less than 9e-5, which is less than bfloat16 can tell (found by Lawson's iteration). */
static const float SHORT_GELU[2][8] = {
    {3.98465872e-01f, -6.55282011e-02f, 9.29822893e-03f, -9.50657430e-04f, 6.68906876e-05f, -3.03793104e-06f,
     7.94133756e-08f, -9.01752946e-10f},
    {3.98395952e-01f, -6.57124791e-02f, 9.43041722e-03f, -9.82572049e-04f, 7.07054599e-05f, -3.28412746e-06f,
     8.76496033e-08f, -1.01398209e-09f},
};

INLINE __m512 short_gelu(const float *polynomial, __m512 x) {
    const __m512 end = _mm512_set1_ps(4.2f);
    const __m512 near = _mm512_min_ps(_mm512_max_ps(x, _mm512_sub_ps(_mm512_setzero_ps(), end)), end);
    const __m512 square = _mm512_mul_ps(near, near);
    __m512 sum = _mm512_set1_ps(polynomial[7]);
#pragma GCC unroll 8
    for (int i = 6; i >= 0; i--)
        sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(polynomial[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(near, sum, _mm512_set1_ps(0.5f)));
}

INLINE __m512 raised(__m512 x) { /* e^x for x <= 0 */
    return power_of_two(0, _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _mm512_set1_ps(-126.0f)));
}

INLINE __m512 gelu(__m512 x) {
    const __m512 bell = raised(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f))), one = _mm512_set1_ps(1.0f);
    const __m512 tail = normal_tail(x, bell);
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(one, tail), below, tail));
}

/* Hendrycks and Gimpel 2016: x / (1 + e^(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
INLINE __m512 gelu_tanh(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), square = _mm512_mul_ps(x, x);
    const __m512 inner = _mm512_fmadd_ps(square, _mm512_set1_ps(0.044715f), one);
    const __m512 twice = _mm512_mul_ps(_mm512_mul_ps(x, inner), _mm512_set1_ps(1.59576912f));
    const __m512 least = raised(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(twice)));
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(x, _mm512_div_ps(_mm512_mask_mov_ps(one, below, least), _mm512_add_ps(one, least)));
}

INLINE __m512 activated(const int activation, const int exact, __m512 x) {
    if (activation == RELU)
        return _mm512_max_ps(_mm512_setzero_ps(), x); /* NaN stays */
    if (activation == NOTHING)
        return x;
    if (!exact)
        return short_gelu(SHORT_GELU[activation == GELU_TANH], x);
    return activation == GELU ? gelu(x) : gelu_tanh(x);
}

/* from sums to what comes out */
INLINE void finished(const linear_t *w, const int activation, const int by, const int kind, const float *sums,
                     const float *more, int rows, int blocks, int64_t row, int64_t column) {
    const int exact = by == SHORTS || (kind == FLOAT32 && by != LEVELS);
    for (int j = 0; j < blocks; j++, column += LANES) {
        const __m512 bias = _mm512_loadu_ps(w->bias + column);
        __m512 units = bias, of_lows = bias;
        if (by == LEVELS || by == SHORTS)
            units = _mm512_loadu_ps(w->units + column);
        if (by == LEVELS)
            of_lows = _mm512_loadu_ps(w->of_lows + column);
        for (int r = 0; r < rows; r++) {
            __m512 value = summed(by == LEVELS ? LEVELS : FLOAT32, sums + r * PANEL + j * LANES);
            const int64_t place = (row + r) * w->columns + column;
            if (by == LEVELS || by == SHORTS)
                value = _mm512_mul_ps(value, _mm512_mul_ps(units, _mm512_set1_ps(w->steps[row + r])));
            if (by == LEVELS) {
                value = _mm512_fmadd_ps(of_lows, _mm512_set1_ps(w->lows[row + r]), value);
                if (w->few.steps)
                    value = _mm512_add_ps(value, _mm512_loadu_ps(more + r * PANEL + j * LANES));
            }
            value = activated(activation, exact, _mm512_add_ps(value, bias));
            if (w->added)
                value = _mm512_add_ps(value, taken(w->added, kind, place));
            put(w->out, kind, place, value);
        }
    }
}

#define FINISH(ACTIVATION, KIND)                                                                                       \
    if (w->activation == ACTIVATION && w->kind == KIND) {                                                              \
        if (w->main.kind == LEVELS)                                                                                    \
            finished(w, ACTIVATION, LEVELS, KIND, sums, more, rows, blocks, row, column);                              \
        else if (w->main.kind == SHORTS)                                                                               \
            finished(w, ACTIVATION, SHORTS, KIND, sums, more, rows, blocks, row, column);                              \
        else                                                                                                           \
            finished(w, ACTIVATION, FLOAT32, KIND, sums, more, rows, blocks, row, column);                             \
    }
#define FINISHES(KIND) FINISH(NOTHING, KIND) FINISH(GELU, KIND) FINISH(GELU_TANH, KIND) FINISH(RELU, KIND)

static void multiplied(const factors_t *of, int rows, int blocks, int64_t row, int64_t column, float *sums) {
    products(of->kind, rows, blocks, of->x + row * of->steps, of->steps, of->weights + column * of->steps, PANEL, LANES,
             of->steps, sums, PANEL);
}

/* the same of SHORTS, as numbers: what 32 bits hold of a sum is added up in float32 */
static void multiplied_in_parts(const factors_t *of, int rows, int blocks, int64_t row, int64_t column, float *sums) {
    _Alignas(64) float some[ROWS * PANEL];
    for (int64_t first = 0; first < of->steps; first += PART) {
        const int64_t steps = of->steps - first < PART ? of->steps - first : PART;
        products(SHORTS, rows, blocks, of->x + row * of->steps + first, of->steps,
                 of->weights + column * of->steps + first * PANEL, PANEL, LANES, steps, some, PANEL);
        for (int r = 0; r < rows; r++)
            for (int64_t c = r * PANEL; c < r * PANEL + blocks * LANES; c += LANES) {
                const __m512 before = first ? _mm512_loadu_ps(sums + c) : _mm512_setzero_ps();
                _mm512_storeu_ps(sums + c, _mm512_add_ps(before, summed(SHORTS, some + c)));
            }
    }
}

static void tiles(const linear_t *w, int64_t first, int64_t last, int64_t column) {
    _Alignas(64) float sums[ROWS * PANEL], more[ROWS * PANEL];
    const int blocks = w->columns - column < PANEL ? (int)(w->columns - column) / LANES : BLOCKS;
    for (int64_t row = first; row < last; row += ROWS) {
        const int rows = last - row < ROWS ? (int)(last - row) : ROWS;
        (w->main.kind == SHORTS ? multiplied_in_parts : multiplied)(&w->main, rows, blocks, row, column, sums);
        if (w->few.steps)
            multiplied(&w->few, rows, blocks, row, column, more);
        FINISHES(FLOAT32)
        FINISHES(BFLOAT16)
        FINISHES(FLOAT16)
    }
}

static void some_tiles(void *given) {
    linear_t *w = given;
    const int64_t panels = (w->columns + PANEL - 1) / PANEL, chunks = (w->rows + w->chunk - 1) / w->chunk;
    for (int64_t task; (task = w->next++) < chunks * panels;) {
        const int64_t first = task / panels * w->chunk, last = first + w->chunk;
        tiles(w, first, last < w->rows ? last : w->rows, task % panels * PANEL);
    }
}

/* activation(x weights + few + bias) + added, of `kind`; `words` are those of a row of x, which is [rows][words] */
void linear(const void *x, int x_kind, int64_t words, const void *weights, const float *steps, const float *lows,
            const float *units, const float *of_lows, const void *few, int few_kind, int64_t few_words,
            const void *few_weights, const float *bias, int activation, const void *added, int kind, void *out,
            int64_t rows, int64_t columns, int threads) {
    const int64_t near = NEAR_BYTES / (4 * words) / ROWS * ROWS;
    linear_t work = {.main = {x, weights, words, x_kind}, .few = {few, few_weights, few_words, few_kind}, .steps = steps,
                     .lows = lows, .units = units, .of_lows = of_lows, .bias = bias, .activation = activation,
                     .added = added, .kind = kind, .out = out, .rows = rows, .columns = columns,
                     .chunk = near < 4 * ROWS ? 4 * ROWS : near};
    together(some_tiles, &work, threads);
}
