/* The LSTM in 8-bit integers (int8.h) for ARM with products of bytes (dotprod, ARMv8.2). Those take
 * bytes with a sign: b - 128 for b; what 128 times the weights comes to is where sums begin. */
#include "int8.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#define NEON __attribute__((target("dotprod")))
#else
#define NEON __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

enum {
    LANES = 4,                  /* units side by side */
    PARTS = UNITS / LANES,      /* of a block */
    QUADS = 4,                  /* in a register of bytes */
};

typedef int32_t offsets[BLOCKS][GATES][UNITS];

/* 2^y to 4e-6 for |y| <= 60; beyond, an activation does not change any more. */
NEON INLINE float32x4_t power_of_two(float32x4_t y)
{
    y = vminq_f32(vdupq_n_f32(60), vmaxq_f32(vdupq_n_f32(-60), y));
    const float32x4_t whole = vrndnq_f32(y);
    const float32x4_t part = vsubq_f32(y, whole);
    float32x4_t sum = vdupq_n_f32(9.6181292e-3f);
    sum = vfmaq_f32(vdupq_n_f32(5.5504109e-2f), sum, part);
    sum = vfmaq_f32(vdupq_n_f32(2.4022651e-1f), sum, part);
    sum = vfmaq_f32(vdupq_n_f32(6.9314718e-1f), sum, part);
    sum = vfmaq_f32(vdupq_n_f32(1), sum, part);
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(whole), vdupq_n_s32(127));
    return vmulq_f32(sum, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}

/* 128 times the sum of each gate's weights: what bytes less 128 do not say. */
NEON static void find_offsets(const layer *it, offsets found)
{
    const int quads = (it->bytes ? INPUT_QUADS : 0) + STATE_QUADS;
    const int8x16_t ones = vdupq_n_s8(1);
    for (int place = 0; place < BLOCKS * GATES * PARTS; place++) {
        const int block = place / (GATES * PARTS), within = place % (GATES * PARTS);
        const int8_t *weights = it->weights + block * block_bytes(it) + within * LANES * QUAD;
        int32x4_t sum = vdupq_n_s32(0);
        for (int quad = 0; quad < quads; quad++, weights += QUAD * GATES * UNITS)
            sum = vdotq_s32(sum, vld1q_s8(weights), ones);
        vst1q_s32(&found[0][0][0] + place * LANES, vshlq_n_s32(sum, 7));
    }
}

/* Adds the products of one of four quads; which one must be known to the compiler. */
#define ADD_QUAD(quad) \
    do { \
        const int8_t *of_quad = weights + (quad) * QUAD * GATES * UNITS; \
        FOUR_TIMES for (int part = 0; part < PARTS; part++) { \
            const int8x16_t own = vld1q_s8(of_quad + part * LANES * QUAD); \
            FOUR_TIMES for (int number = 0; number < group; number++) \
                sums[part][number] = vdotq_laneq_s32(sums[part][number], own, bytes[number], quad); \
        } \
    } while (0)

/* Adds `quads` times four bytes of each of `group` rows times a gate's weights; where those end. */
NEON INLINE const int8_t *add_products(int32x4_t sums[PARTS][GROUP],
                                       const uint8_t *const rows[GROUP], int group, int quads,
                                       const int8_t *weights)
{
    for (int first = 0; first < quads; first += QUADS, weights += QUADS * QUAD * GATES * UNITS) {
        int8x16_t bytes[GROUP];
        FOUR_TIMES for (int number = 0; number < group; number++) {
            const uint8x16_t raw = vld1q_u8(rows[number] + first * QUAD);
            bytes[number] = vreinterpretq_s8_u8(veorq_u8(raw, vdupq_n_u8(0x80)));
        }
        ADD_QUAD(0);
        ADD_QUAD(1);
        ADD_QUAD(2);
        ADD_QUAD(3);
    }
    return weights;
}

/* A gate of a block for a group of rows. */
NEON INLINE void find_gate(const layer *it, const row rows[GROUP], int group, int block, int gate,
                           const offsets begun, float32x4_t gates[PARTS][GROUP])
{
    const size_t at = ((size_t)block * GATES + gate) * UNITS;
    const uint8_t *bytes[GROUP], *states[GROUP];
    int32x4_t sums[PARTS][GROUP];
    FOUR_TIMES for (int number = 0; number < group; number++) {
        bytes[number] = rows[number].bytes;
        states[number] = rows[number].state;
        FOUR_TIMES for (int part = 0; part < PARTS; part++)
            sums[part][number] = vld1q_s32(begun[block][gate] + part * LANES);
    }
    const int8_t *weights = it->weights + block * block_bytes(it) + gate * UNITS * QUAD;
    if (it->bytes)
        weights = add_products(sums, bytes, group, INPUT_QUADS, weights);
    add_products(sums, states, group, STATE_QUADS, weights);
    FOUR_TIMES for (int part = 0; part < PARTS; part++) {
        const float32x4_t scale = vld1q_f32(it->scale + at + part * LANES);
        const float32x4_t bias = vld1q_f32(it->bias + at + part * LANES);
        FOUR_TIMES for (int number = 0; number < group; number++)
            gates[part][number] = vfmaq_f32(bias, vcvtq_f32_s32(sums[part][number]), scale);
    }
    const float *own = it->float_weights + ((size_t)block * it->width * GATES + gate) * UNITS;
    for (int k = 0; it->floats && k < it->width; k++, own += GATES * UNITS) {
        FOUR_TIMES for (int part = 0; part < PARTS; part++) {
            const float32x4_t weight = vld1q_f32(own + part * LANES);
            FOUR_TIMES for (int number = 0; number < group; number++)
                gates[part][number] =
                    vfmaq_n_f32(gates[part][number], weight, rows[number].floats[k]);
        }
    }
}

/* All units of a group of rows: `group` is a number that the compiler sees. */
NEON INLINE void run_rows(const layer *it, const row rows[GROUP], int group, const offsets begun)
{
    const float32x4_t one = vdupq_n_f32(1);
    for (int block = 0; block < BLOCKS; block++) {
        float32x4_t gates[GATES][PARTS][GROUP];
        for (int gate = 0; gate < GATES; gate++)
            find_gate(it, rows, group, block, gate, begun, gates[gate]);
        for (int number = 0; number < group; number++) {
            uint16x4_t rounded[PARTS];
            FOUR_TIMES for (int part = 0; part < PARTS; part++) {
                float *cells = rows[number].cells + block * UNITS + part * LANES;
                const float32x4_t enter = vaddq_f32(one, power_of_two(gates[0][part][number]));
                const float32x4_t keep = vaddq_f32(one, power_of_two(gates[1][part][number]));
                const float32x4_t candidate = power_of_two(gates[2][part][number]);
                const float32x4_t show = vaddq_f32(one, power_of_two(gates[3][part][number]));
                const float32x4_t fresh = vdivq_f32(
                    vsubq_f32(one, candidate), vmulq_f32(enter, vaddq_f32(one, candidate)));
                const float32x4_t cell = vaddq_f32(vdivq_f32(vld1q_f32(cells), keep), fresh);
                vst1q_f32(cells, cell);
                const float32x4_t ends = power_of_two(vmulq_n_f32(cell, -2.885390082f));
                const float32x4_t state =
                    vdivq_f32(vsubq_f32(one, ends), vmulq_f32(show, vaddq_f32(one, ends)));
                rounded[part] = vqmovun_s32(
                    vcvtnq_s32_f32(vfmaq_n_f32(vdupq_n_f32(128), state, 127)));
                if (it->exact)
                    vst1q_f32(rows[number].exact + block * UNITS + part * LANES, state);
            }
            const uint8x8_t low = vqmovn_u16(vcombine_u16(rounded[0], rounded[1]));
            const uint8x8_t high = vqmovn_u16(vcombine_u16(rounded[2], rounded[3]));
            vst1q_u8(rows[number].output + block * UNITS, vcombine_u8(low, high));
        }
    }
}

#define RUN_ROWS(name, group) \
    NEON static __attribute__((noinline)) void name(const layer *it, const row rows[GROUP], \
                                                    const offsets begun) \
    { \
        run_rows(it, rows, group, begun); \
    }

FOR_EACH_GROUP(RUN_ROWS, run_all)

EXPORT NEON void fluidaudio_int8_lstm_neon(const layer *it)
{
    uint8_t silence[HIDDEN];
    offsets begun;
    begin(it, silence);
    find_offsets(it, begun);
    for (int count = 0; count < it->steps; count++) {
        for (int first = 0; first < it->rows; first += GROUP) {
            const int group = it->rows - first < GROUP ? it->rows - first : GROUP;
            row rows[GROUP];
            for (int number = 0; number < group; number++)
                rows[number] = row_of(it, first + number, count, silence);
            CALL_FOR_GROUP(group, run_all, it, rows, begun);
        }
    }
}

#endif
