/* The LSTM in 8-bit integers (int8.h) for AVX-512 VNNI, which multiplies and adds up four bytes. */
#include "int8.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni")))

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

FOR_EACH_GROUP(RUN_BLOCKS, run_all)

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
    begin(it, silence);
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
            CALL_FOR_GROUP(it->rows - first, run_all, it, rows);
        }
    }
}

#endif
