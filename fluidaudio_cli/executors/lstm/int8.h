/* One direction of an LSTM layer with 128 hidden units, in 8-bit integers: what its forms share.
 *
 * States lie within -1 and 1, so that a byte holds them well: 128 + 127 h. What a layer reads from
 * the one before and what it remembers are such bytes; weights are int8 with one scale for each
 * gate of each unit, which also undoes the 128 (int8.py packs them). The first layer reads floats.
 * Gates are scaled so that both activations begin with a power of two:
 *     sigmoid(x) = 1 / (1 + 2^(-x log2 e)),   tanh(x) = (1 - 2^(-2x log2 e)) / (1 + 2^(-2x log2 e)).
 * The cell state stays fp32. A row's result does not depend on the rows beside it. There is a form
 * for AVX-512 VNNI, one for AVX2, one for ARM, and a portable one, which the others are tested
 * against.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define FOUR_TIMES _Pragma("GCC unroll 4")

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

static inline int padded(int rows) { return (rows + GROUP - 1) / GROUP * GROUP; }

static inline size_t block_bytes(const layer *it)
{
    return (size_t)((it->bytes ? INPUT_QUADS : 0) + STATE_QUADS) * QUAD * GATES * UNITS;
}

/* Row `number` at step `count`, counted from where this direction begins. Rows that only pad a
 * group do over again what the last one does. */
static inline row row_of(const layer *it, int number, int count, const uint8_t *silence)
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

/* Silence before the first step, and cells of nothing. */
static inline void begin(const layer *it, uint8_t silence[HIDDEN])
{
    memset(silence, 128, HIDDEN);
    memset(it->cells, 0, sizeof(float) * padded(it->rows) * HIDDEN);
}

/* A function for each number of rows that a group can have, which the compiler then knows:
 * `define` makes one from its name and that number, and the one for `group` is called. */
#define FOR_EACH_GROUP(define, name) \
    define(name##_1, 1) \
    define(name##_2, 2) \
    define(name##_3, 3) \
    define(name##_4, GROUP)

#define CALL_FOR_GROUP(group, name, ...) \
    do { \
        switch (group) { \
        case 1: name##_1(__VA_ARGS__); break; \
        case 2: name##_2(__VA_ARGS__); break; \
        case 3: name##_3(__VA_ARGS__); break; \
        default: name##_4(__VA_ARGS__); \
        } \
    } while (0)
