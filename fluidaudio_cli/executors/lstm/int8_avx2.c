/* The LSTM in 8-bit integers (int8.h) for AVX2: bytes become words of 16 bits, of which two products
 * at a time are added up exactly. */
#include "int8.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))

enum { LANES = 8 };         /* units side by side, half of a block's */

/* 2^y to 4e-6 for |y| <= 60; beyond, an activation does not change any more. */
AVX2 INLINE __m256 power_of_two(__m256 y)
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
            const __m256 enter = _mm256_add_ps(one, power_of_two(gates[0][number]));
            const __m256 keep = _mm256_add_ps(one, power_of_two(gates[1][number]));
            const __m256 candidate = power_of_two(gates[2][number]);
            const __m256 show = _mm256_add_ps(one, power_of_two(gates[3][number]));
            const __m256 fresh =
                _mm256_div_ps(_mm256_sub_ps(one, candidate),
                              _mm256_mul_ps(enter, _mm256_add_ps(one, candidate)));
            const __m256 cell = _mm256_add_ps(_mm256_div_ps(_mm256_load_ps(cells), keep), fresh);
            _mm256_store_ps(cells, cell);
            const __m256 ends = power_of_two(_mm256_mul_ps(cell, _mm256_set1_ps(-2.885390082f)));
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

FOR_EACH_GROUP(RUN_ROWS, run_all)

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
    begin(it, silence);
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
            CALL_FOR_GROUP(group, run_all, it, rows, starts);
        }
    }
}

#endif
