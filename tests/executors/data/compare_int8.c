/* Compares a form of the LSTM in integers (FORM: neon) with the portable one, on weights and inputs
 * made up here. For processors that the tests' own can only pretend to be; prints the greatest
 * difference of a first layer's first step, then of the bytes and of the floats of whole layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "int8.h"

#define JOINED(a, b) a##b
#define NAMED(form) JOINED(fluidaudio_int8_lstm_, form)

void fluidaudio_int8_lstm_portable(const layer *it);
void NAMED(FORM)(const layer *it);

static uint32_t state = 1;

/* From -1 to 1. */
static float drawn(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static void *room(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static float *floats(size_t count, float middle, float range)
{
    float *made = room(count * sizeof *made);
    for (size_t at = 0; at < count; at++)
        made[at] = middle + range * drawn();
    return made;
}

/* What each form gives for a layer that reads bytes, or floats. */
static void compare(int steps, int rows, int width, int reverse, float *of_floats, int *of_bytes)
{
    const int quads = (width ? 0 : INPUT_QUADS) + STATE_QUADS;
    const size_t weights = (size_t)BLOCKS * quads * GATES * UNITS * QUAD;
    const size_t bytes = (size_t)steps * padded(rows) * BOTH, shown = (size_t)rows * steps * BOTH;
    uint8_t *input = room(bytes), *output[2];
    float *exact[2];
    int8_t *packed = room(weights);
    layer it = {0};
    for (size_t at = 0; at < bytes; at++) {
        /* Rows that pad a group hold what the last one does. */
        const int number = (int)(at / BOTH % padded(rows));
        input[at] = number < rows ? (uint8_t)(128 + lrintf(127 * drawn())) : input[at - BOTH];
    }
    for (size_t at = 0; at < weights; at++)
        packed[at] = (int8_t)lrintf(127 * drawn());
    it.bytes = width ? NULL : input;
    it.floats = width ? floats((size_t)rows * steps * width, 0, 1) : NULL;
    it.width = width, it.steps = steps, it.rows = rows, it.reverse = reverse;
    it.weights = packed;
    it.float_weights = floats((size_t)BLOCKS * width * GATES * UNITS + 1, 0, 0.5f);
    it.scale = floats(HIDDEN * GATES, 2e-5f, 1e-5f);
    float *bias = floats(HIDDEN * GATES, 0, 1);
    for (size_t at = 0; at < weights; at++) {
        const size_t block = at / ((size_t)quads * GATES * UNITS * QUAD);
        const size_t gate = block * GATES * UNITS + at / QUAD % (GATES * UNITS);
        bias[gate] -= 128 * it.scale[gate] * packed[at];
    }
    it.bias = bias;
    it.cells = room(sizeof(float) * padded(rows) * HIDDEN);
    for (int form = 0; form < 2; form++) {
        it.output = output[form] = calloc(bytes, 1);
        it.exact = exact[form] = calloc(shown, sizeof(float));
        (form ? NAMED(FORM) : fluidaudio_int8_lstm_portable)(&it);
    }
    for (size_t at = 0; at < shown; at++)
        *of_floats = fmaxf(*of_floats, fabsf(exact[0][at] - exact[1][at]));
    for (size_t at = 0; at < bytes; at++) {
        if ((int)(at / BOTH % padded(rows)) >= rows)
            continue;
        const int difference = abs(output[0][at] - output[1][at]);
        *of_bytes = difference > *of_bytes ? difference : *of_bytes;
    }
}

int main(void)
{
    float first = 0, later = 0;
    int bytes = 0;
    for (int rows = 1; rows <= 6; rows++) {
        for (int reverse = 0; reverse < 2; reverse++) {
            compare(1, rows, 60, reverse, &first, &bytes);
            compare(1, rows, 0, reverse, &first, &bytes);
            compare(9, rows, 60, reverse, &later, &bytes);
            compare(9, rows, 0, reverse, &later, &bytes);
        }
    }
    printf("%g %d %g\n", first, bytes, later);
    return 0;
}
