/* One direction of an LSTM layer with 128 hidden units, in 8-bit integers.
 *
 * States lie within -1 and 1, so that a byte holds them well: 128 + 127 h. What a layer reads from
 * the one before and what it remembers are such bytes; weights are int8 with one scale for each
 * gate of each unit, which also undoes the 128 (int8.py packs them). The first layer reads floats.
 * Gates are scaled so that both activations begin with a power of two:
 *     sigmoid(x) = 1 / (1 + 2^(-x log2 e)),   tanh(x) = (1 - 2^(-2x log2 e)) / (1 + 2^(-2x log2 e)).
 * The cell state stays fp32. A row's result does not depend on the rows beside it. There is a form
 * for AVX-512 VNNI, one for AVX2, and a portable one, which the others are tested against.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    HIDDEN = 128,
    BOTH = 2 * HIDDEN,      /* of both directions */
    UNITS = 16,             /* hidden units side by side */
    BLOCKS = HIDDEN / UNITS,
    GATES = 4,              /* input, forget, cell, output */
    GROUP = 4,              /* rows worked on together, for which weights are loaded once */
    QUAD = 4,               /* bytes that are multiplied and added up at once */
    STATE_QUADS = HIDDEN / QUAD,
    INPUT_QUADS = BOTH / QUAD,
};

/* What every form takes.
 *
 * Input: bytes [steps][rows, padded to groups][256], or null and floats [rows][steps][width].
 * Weights: bytes [8 blocks][quads of input, then of state][4 gates][16 units][4]; those of floats
 * [8][width][4][16]; scale and bias [8][4][16]. Output: bytes as the input's, of which columns
 * 128 * reverse onwards are written; and, unless null, floats [rows][steps][256].
 * Cells: room for [padded rows][128]. Arrays of weights and cells begin at multiples of 64. */
typedef struct {
    const uint8_t *bytes;
    const float *floats;
    int32_t width, steps, rows, reverse;
    const int8_t *weights;
    const float *float_weights, *scale, *bias;
    uint8_t *output;
    float *exact, *cells;
} layer;

typedef struct {
    const uint8_t *bytes, *state;
    const float *floats;
    uint8_t *output;
    float *exact, *cells;
} row;

static int padded(int rows) { return (rows + GROUP - 1) / GROUP * GROUP; }

static size_t block_bytes(const layer *it)
{
    return (size_t)((it->bytes ? INPUT_QUADS : 0) + STATE_QUADS) * QUAD * GATES * UNITS;
}

/* Row `number` at step `count`, counted from where this direction begins. Rows that only pad a
 * group do over again what the last one does. */
static row row_of(const layer *it, int number, int count, const uint8_t *silence)
{
    const int step = it->reverse ? it->steps - 1 - count : count;
    const int before = it->reverse ? step + 1 : step - 1;
    const int real = number < it->rows ? number : it->rows - 1;
    const size_t stride = (size_t)padded(it->rows) * BOTH, own = (size_t)number * BOTH;
    const size_t place = (size_t)real * it->steps + step, side = (size_t)it->reverse * HIDDEN;
    row found;
    found.bytes = it->bytes ? it->bytes + step * stride + own : NULL;
    found.floats = it->floats ? it->floats + place * it->width : NULL;
    found.state = count ? it->output + before * stride + own + side : silence;
    found.output = it->output + step * stride + own + side;
    found.exact = it->exact ? it->exact + place * BOTH + side : NULL;
    found.cells = it->cells + (size_t)number * HIDDEN;
    return found;
}

static void portable_unit(const layer *it, const row *one, int block, int unit)
{
    const int8_t *weights = it->weights + block * block_bytes(it);
    float gates[GATES];
    for (int gate = 0; gate < GATES; gate++) {
        const size_t at = ((size_t)block * GATES + gate) * UNITS + unit;
        const int inputs = it->bytes ? BOTH : 0;
        int32_t sum = 0;
        for (int k = 0; k < inputs + HIDDEN; k++) {
            const int byte = k < inputs ? one->bytes[k] : one->state[k - inputs];
            sum += byte * weights[(((k / QUAD) * GATES + gate) * UNITS + unit) * QUAD + k % QUAD];
        }
        gates[gate] = (float)sum * it->scale[at] + it->bias[at];
        for (int k = 0; one->floats && k < it->width; k++)
            gates[gate] += one->floats[k] *
                it->float_weights[(((size_t)block * it->width + k) * GATES + gate) * UNITS + unit];
    }
    float *cell = one->cells + block * UNITS + unit;
    const float candidate = exp2f(gates[2]);
    *cell = *cell / (1 + exp2f(gates[1])) +
        (1 - candidate) / ((1 + exp2f(gates[0])) * (1 + candidate));
    const float state = tanhf(*cell) / (1 + exp2f(gates[3]));
    one->output[block * UNITS + unit] = (uint8_t)lrintf(128 + 127 * state);
    if (one->exact)
        one->exact[block * UNITS + unit] = state;
}

EXPORT void fluidaudio_int8_lstm_portable(const layer *it)
{
    uint8_t silence[HIDDEN];
    memset(silence, 128, sizeof silence);
    memset(it->cells, 0, sizeof(float) * padded(it->rows) * HIDDEN);
    for (int count = 0; count < it->steps; count++) {
        for (int number = 0; number < padded(it->rows); number++) {
            const row one = row_of(it, number, count, silence);
            for (int unit = 0; unit < HIDDEN; unit++)
                portable_unit(it, &one, unit / UNITS, unit % UNITS);
        }
    }
}

#if defined(__x86_64__)

#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline))
#define FOUR_TIMES _Pragma("GCC unroll 4")

/* 2^y to 4e-6 for |y| <= 60; beyond, an activation does not change any more. */
VNNI INLINE __m512 power_of_two(__m512 y)
{
    y = _mm512_min_ps(_mm512_set1_ps(60), _mm512_max_ps(_mm512_set1_ps(-60), y));
    const __m512 whole = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 part = _mm512_sub_ps(y, whole);
    __m512 sum = _mm512_set1_ps(9.6181292e-3f);
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.5504109e-2f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.4022651e-1f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.9314718e-1f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1));
    return _mm512_scalef_ps(sum, whole);
}

/* 1 / x to 1e-8, one step of Newton's from 14 bits. */
VNNI INLINE __m512 inverse(__m512 x)
{
    const __m512 near = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(2)));
}

/* Adds `quads` times four bytes of each of `group` rows times their weights; where those end. */
VNNI INLINE const int8_t *add_products(__m512i sums[GATES][GROUP], const uint8_t *const rows[GROUP],
                                       int group, int quads, const int8_t *weights)
{
    for (int quad = 0; quad < quads; quad++, weights += QUAD * GATES * UNITS) {
        __m512i own[GATES];
        FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
            own[gate] = _mm512_load_si512(weights + gate * QUAD * UNITS);
        FOUR_TIMES for (int number = 0; number < group; number++) {
            int32_t four;
            memcpy(&four, rows[number] + quad * QUAD, sizeof four);
            const __m512i bytes = _mm512_set1_epi32(four);
            FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
                sums[gate][number] = _mm512_dpbusd_epi32(sums[gate][number], bytes, own[gate]);
        }
    }
    return weights;
}

/* 16 units of a group of rows: `group` is a number that the compiler sees, at most GROUP.
 * `ahead`: what the inputs of a row alone come to at this step, or null. */
VNNI INLINE void run_block(const layer *it, const row rows[GROUP], int group, int block,
                           const __m512i (*ahead)[GATES])
{
    const uint8_t *bytes[GROUP], *states[GROUP];
    __m512i sums[GATES][GROUP];
    __m512 gates[GATES][GROUP];
    FOUR_TIMES for (int number = 0; number < group; number++) {
        bytes[number] = rows[number].bytes;
        states[number] = rows[number].state;
        FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
            sums[gate][number] = ahead ? ahead[block][gate] : _mm512_setzero_si512();
    }
    const int8_t *weights = it->weights + block * block_bytes(it);
    if (ahead)
        weights += INPUT_QUADS * QUAD * GATES * UNITS;
    else if (it->bytes)
        weights = add_products(sums, bytes, group, INPUT_QUADS, weights);
    add_products(sums, states, group, STATE_QUADS, weights);
    FOUR_TIMES for (int gate = 0; gate < GATES; gate++) {
        const size_t at = ((size_t)block * GATES + gate) * UNITS;
        const __m512 scale = _mm512_load_ps(it->scale + at), bias = _mm512_load_ps(it->bias + at);
        FOUR_TIMES for (int number = 0; number < group; number++)
            gates[gate][number] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[gate][number]), scale, bias);
    }
    const float *own = it->float_weights + (size_t)block * it->width * GATES * UNITS;
    for (int k = 0; it->floats && k < it->width; k++, own += GATES * UNITS) {
        FOUR_TIMES for (int number = 0; number < group; number++) {
            const __m512 value = _mm512_set1_ps(rows[number].floats[k]);
            FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
                gates[gate][number] = _mm512_fmadd_ps(
                    value, _mm512_load_ps(own + gate * UNITS), gates[gate][number]);
        }
    }
    const __m512 one = _mm512_set1_ps(1);
    FOUR_TIMES for (int number = 0; number < group; number++) {
        float *cells = rows[number].cells + block * UNITS;
        const __m512 enter = _mm512_add_ps(one, power_of_two(gates[0][number]));
        const __m512 keep = _mm512_add_ps(one, power_of_two(gates[1][number]));
        const __m512 candidate = power_of_two(gates[2][number]);
        const __m512 show = _mm512_add_ps(one, power_of_two(gates[3][number]));
        const __m512 fresh =
            _mm512_mul_ps(_mm512_sub_ps(one, candidate),
                          inverse(_mm512_mul_ps(enter, _mm512_add_ps(one, candidate))));
        const __m512 cell = _mm512_fmadd_ps(_mm512_load_ps(cells), inverse(keep), fresh);
        _mm512_store_ps(cells, cell);
        const __m512 ends = power_of_two(_mm512_mul_ps(cell, _mm512_set1_ps(-2.885390082f)));
        const __m512 state = _mm512_mul_ps(
            _mm512_sub_ps(one, ends), inverse(_mm512_mul_ps(show, _mm512_add_ps(one, ends))));
        const __m512i rounded = _mm512_cvtps_epi32(
            _mm512_fmadd_ps(state, _mm512_set1_ps(127), _mm512_set1_ps(128)));
        _mm_storeu_si128((__m128i *)(rows[number].output + block * UNITS),
                         _mm512_cvtepi32_epi8(rounded));
        if (it->exact)
            _mm512_storeu_ps(rows[number].exact + block * UNITS, state);
    }
}

/* Each a function of its own: inlined side by side, four rows took a sixth longer. */
#define RUN_BLOCKS(name, group) \
    VNNI static __attribute__((noinline)) void name(const layer *it, const row rows[GROUP]) \
    { \
        for (int block = 0; block < BLOCKS; block++) \
            run_block(it, rows, group, block, NULL); \
    }

RUN_BLOCKS(run_one, 1)
RUN_BLOCKS(run_two, 2)
RUN_BLOCKS(run_three, 3)
RUN_BLOCKS(run_group, GROUP)

/* The first row alone, a window of a live stream. Its weights come from beyond the nearest cache
 * at every step; those of inputs, which are known beforehand, once for a group of steps. */
VNNI static void run_alone(const layer *it, const uint8_t *silence)
{
    for (int first = 0; first < it->steps; first += GROUP) {
        __m512i ahead[GROUP][BLOCKS][GATES];
        row steps[GROUP];
        for (int number = 0; number < GROUP; number++) {
            const int count = first + number < it->steps ? first + number : it->steps - 1;
            steps[number] = row_of(it, 0, count, silence);
        }
        for (int block = 0; it->bytes && block < BLOCKS; block++) {
            const uint8_t *bytes[GROUP];
            __m512i sums[GATES][GROUP];
            FOUR_TIMES for (int number = 0; number < GROUP; number++) {
                bytes[number] = steps[number].bytes;
                FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
                    sums[gate][number] = _mm512_setzero_si512();
            }
            add_products(sums, bytes, GROUP, INPUT_QUADS, it->weights + block * block_bytes(it));
            FOUR_TIMES for (int number = 0; number < GROUP; number++)
                FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
                    ahead[number][block][gate] = sums[gate][number];
        }
        for (int number = 0; number < GROUP && first + number < it->steps; number++)
            for (int block = 0; block < BLOCKS; block++)
                run_block(it, &steps[number], 1, block, it->bytes ? ahead[number] : NULL);
    }
}

EXPORT VNNI void fluidaudio_int8_lstm_vnni(const layer *it)
{
    uint8_t silence[HIDDEN];
    memset(silence, 128, sizeof silence);
    memset(it->cells, 0, sizeof(float) * padded(it->rows) * HIDDEN);
    if (it->rows == 1) {
        run_alone(it, silence);
        return;
    }
    for (int count = 0; count < it->steps; count++) {
        for (int first = 0; first < it->rows; first += GROUP) {
            row rows[GROUP];
            for (int number = 0; number < GROUP; number++)
                rows[number] = row_of(it, first + number, count, silence);
            /* What is left over costs what it is. */
            switch (it->rows - first) {
            case 1: run_one(it, rows); break;
            case 2: run_two(it, rows); break;
            case 3: run_three(it, rows); break;
            default: run_group(it, rows);
            }
        }
    }
}

/* The same for processors without such instructions: bytes become words of 16 bits, of which two
 * products at a time are added up exactly. */

#define AVX2 __attribute__((target("avx2,fma")))

enum { LANES = 8 };         /* units side by side, half of a block's */

/* As power_of_two. */
AVX2 INLINE __m256 power_of_two_8(__m256 y)
{
    y = _mm256_min_ps(_mm256_set1_ps(60), _mm256_max_ps(_mm256_set1_ps(-60), y));
    const __m256i whole = _mm256_cvtps_epi32(y);
    const __m256 part = _mm256_sub_ps(y, _mm256_cvtepi32_ps(whole));
    __m256 sum = _mm256_set1_ps(9.6181292e-3f);
    sum = _mm256_fmadd_ps(sum, part, _mm256_set1_ps(5.5504109e-2f));
    sum = _mm256_fmadd_ps(sum, part, _mm256_set1_ps(2.4022651e-1f));
    sum = _mm256_fmadd_ps(sum, part, _mm256_set1_ps(6.9314718e-1f));
    sum = _mm256_fmadd_ps(sum, part, _mm256_set1_ps(1));
    const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(sum, _mm256_castsi256_ps(exponent));
}

/* A gate of 8 units: for each of `group` rows the sum of `quads` times four bytes, now of 16 bits,
 * times their weights. */
AVX2 INLINE void gate_sums(__m256 sums[GROUP], const int16_t *const wide[GROUP], int group,
                           int quads, const int8_t *weights)
{
    __m256i low[GROUP], high[GROUP];
    FOUR_TIMES for (int number = 0; number < group; number++)
        low[number] = high[number] = _mm256_setzero_si256();
    for (int quad = 0; quad < quads; quad++, weights += QUAD * GATES * UNITS) {
        const __m128i *own = (const __m128i *)weights;
        const __m256i first = _mm256_cvtepi8_epi16(_mm_load_si128(own));
        const __m256i second = _mm256_cvtepi8_epi16(_mm_load_si128(own + 1));
        FOUR_TIMES for (int number = 0; number < group; number++) {
            int64_t four;
            memcpy(&four, wide[number] + quad * QUAD, sizeof four);
            const __m256i values = _mm256_set1_epi64x(four);
            low[number] = _mm256_add_epi32(low[number], _mm256_madd_epi16(values, first));
            high[number] = _mm256_add_epi32(high[number], _mm256_madd_epi16(values, second));
            /* GCC would keep old sums beside new ones, in more registers than there are. */
            __asm__("" : "+x"(low[number]), "+x"(high[number]));
        }
    }
    FOUR_TIMES for (int number = 0; number < group; number++) {
        /* Two halves of each unit's sum lie side by side: units 0 1 4 5, then 2 3 6 7. */
        const __m256i both = _mm256_hadd_epi32(low[number], high[number]);
        sums[number] = _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(both, 0xd8));
    }
}

/* All units of a group of rows; `wide`: their bytes, inputs before states. */
AVX2 INLINE void run_rows(const layer *it, const row rows[GROUP], const int16_t *const wide[GROUP],
                          int group)
{
    const int quads = (it->bytes ? INPUT_QUADS : 0) + STATE_QUADS;
    const __m256 one = _mm256_set1_ps(1);
    for (int unit = 0; unit < HIDDEN; unit += LANES) {
        const int block = unit / UNITS, lane = unit % UNITS;
        __m256 gates[GATES][GROUP];
        for (int gate = 0; gate < GATES; gate++) {
            const size_t at = ((size_t)block * GATES + gate) * UNITS + lane;
            const __m256 scale = _mm256_load_ps(it->scale + at), bias = _mm256_load_ps(it->bias + at);
            gate_sums(gates[gate], wide, group, quads,
                      it->weights + block * block_bytes(it) + (gate * UNITS + lane) * QUAD);
            FOUR_TIMES for (int number = 0; number < group; number++)
                gates[gate][number] = _mm256_fmadd_ps(gates[gate][number], scale, bias);
        }
        const float *own = it->float_weights + (size_t)block * it->width * GATES * UNITS + lane;
        for (int k = 0; it->floats && k < it->width; k++, own += GATES * UNITS) {
            FOUR_TIMES for (int number = 0; number < group; number++) {
                const __m256 value = _mm256_set1_ps(rows[number].floats[k]);
                FOUR_TIMES for (int gate = 0; gate < GATES; gate++)
                    gates[gate][number] = _mm256_fmadd_ps(
                        value, _mm256_load_ps(own + gate * UNITS), gates[gate][number]);
            }
        }
        FOUR_TIMES for (int number = 0; number < group; number++) {
            float *cells = rows[number].cells + unit;
            const __m256 enter = _mm256_add_ps(one, power_of_two_8(gates[0][number]));
            const __m256 keep = _mm256_add_ps(one, power_of_two_8(gates[1][number]));
            const __m256 candidate = power_of_two_8(gates[2][number]);
            const __m256 show = _mm256_add_ps(one, power_of_two_8(gates[3][number]));
            const __m256 fresh =
                _mm256_div_ps(_mm256_sub_ps(one, candidate),
                              _mm256_mul_ps(enter, _mm256_add_ps(one, candidate)));
            const __m256 cell = _mm256_add_ps(_mm256_div_ps(_mm256_load_ps(cells), keep), fresh);
            _mm256_store_ps(cells, cell);
            const __m256 ends = power_of_two_8(_mm256_mul_ps(cell, _mm256_set1_ps(-2.885390082f)));
            const __m256 state = _mm256_div_ps(
                _mm256_sub_ps(one, ends), _mm256_mul_ps(show, _mm256_add_ps(one, ends)));
            const __m256i rounded = _mm256_cvtps_epi32(
                _mm256_fmadd_ps(state, _mm256_set1_ps(127), _mm256_set1_ps(128)));
            const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                                   _mm256_extracti128_si256(rounded, 1));
            _mm_storel_epi64((__m128i *)(rows[number].output + unit),
                             _mm_packus_epi16(words, words));
            if (it->exact)
                _mm256_storeu_ps(rows[number].exact + unit, state);
        }
    }
}

#define RUN_ROWS(name, group) \
    AVX2 static __attribute__((noinline)) void name(const layer *it, const row rows[GROUP], \
                                                    const int16_t *const wide[GROUP]) \
    { \
        run_rows(it, rows, wide, group); \
    }

RUN_ROWS(rows_one, 1)
RUN_ROWS(rows_two, 2)
RUN_ROWS(rows_three, 3)
RUN_ROWS(rows_group, GROUP)

AVX2 INLINE void widen(int16_t *words, const uint8_t *bytes, int count)
{
    for (int k = 0; k < count; k += UNITS)
        _mm256_storeu_si256((__m256i *)(words + k),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(bytes + k))));
}

EXPORT AVX2 void fluidaudio_int8_lstm_avx2(const layer *it)
{
    uint8_t silence[HIDDEN];
    int16_t wide[GROUP][BOTH + HIDDEN];
    memset(silence, 128, sizeof silence);
    memset(it->cells, 0, sizeof(float) * padded(it->rows) * HIDDEN);
    for (int count = 0; count < it->steps; count++) {
        for (int first = 0; first < it->rows; first += GROUP) {
            const int group = it->rows - first < GROUP ? it->rows - first : GROUP;
            const int16_t *starts[GROUP];
            row rows[GROUP];
            for (int number = 0; number < group; number++) {
                rows[number] = row_of(it, first + number, count, silence);
                starts[number] = wide[number];
                if (it->bytes)
                    widen(wide[number], rows[number].bytes, BOTH);
                widen(wide[number] + (it->bytes ? BOTH : 0), rows[number].state, HIDDEN);
            }
            switch (group) {
            case 1: rows_one(it, rows, starts); break;
            case 2: rows_two(it, rows, starts); break;
            case 3: rows_three(it, rows, starts); break;
            default: rows_group(it, rows, starts);
            }
        }
    }
}

#endif
