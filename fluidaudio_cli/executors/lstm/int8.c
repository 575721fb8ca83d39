/* The LSTM in 8-bit integers as int8.h says it, for every processor: what the other forms are tested
 * against. */
#include <math.h>

#include "int8.h"

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
    begin(it, silence);
    for (int count = 0; count < it->steps; count++) {
        for (int number = 0; number < padded(it->rows); number++) {
            const row one = row_of(it, number, count, silence);
            for (int unit = 0; unit < HIDDEN; unit++)
                portable_unit(it, &one, unit / UNITS, unit % UNITS);
        }
    }
}
