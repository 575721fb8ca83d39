/* One direction of an LSTM layer with 128 hidden units, in bf16 on AMX tiles.
 *
 * The gates of all steps that fit a small buffer are projected from the input at once; then each
 * step adds what the state contributes, straight from the tiles to the vector units. Weights come
 * packed, with columns ordered so that the four gates of 16 units lie side by side, and scaled so
 * that both activations begin with a power of two (see layers.py and tiles.py, which pack them):
 *     sigmoid(x) = 1 / (1 + 2^(-x log2 e)),   tanh(x) = (1 - 2^(-2x log2 e)) / (1 + 2^(-2x log2 e)).
 * Products are bf16 and sums fp32; the cell state stays fp32. A row's result does not depend on
 * the rows beside it.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define TILES __attribute__((target("amx-tile,amx-bf16")))
#define VECTORS __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")))
#define BOTH                                                                                      \
    __attribute__((target("amx-tile,amx-bf16,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")))

enum {
    HIDDEN = 128,
    UNITS = 16,                         /* hidden units, or batch rows, in one tile */
    GATE_TILES = 4 * HIDDEN / UNITS,    /* tiles across the gates */
    DEPTH = 32,                         /* bf16 values along a tile's row */
    STATE_TILES = HIDDEN / DEPTH,       /* tiles along the state */
    TILE_BYTES = 1024,
    CHUNK_ROWS = 64,                    /* rows (step, batch) projected at once: 128 KiB of gates */
};

/* Compilers' headers do not tell that loads and configuration of tiles read memory (GCC 12: the
 * first 8 bytes of a configuration, nothing of a tile). Stores must not be put off beyond this. */
#define STORES_ARE_DONE(address) __asm__ volatile("" : : "r"(address) : "memory")

typedef uint16_t bf16;

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Linux hands out the tile registers to processes that ask. 0 when granted. */
EXPORT int fluidaudio_request_tiles(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0 ? 0 : -1;
}

static tile_config configured(int first, int last, int rows)
{
    tile_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) {
        config.row_bytes[tile] = 64;
        config.rows[tile] = tile >= first && tile <= last ? (uint8_t)rows : 16;
    }
    return config;
}

/* gates[tile][row][unit] = input[row] x weights, for rows in blocks of 32. */
TILES static void project(const bf16 *input, int depth_tiles, const bf16 *weights, float *gates,
                          int rows)
{
    const size_t row_bytes = (size_t)depth_tiles * DEPTH * sizeof(bf16);
    for (int row = 0; row < rows; row += 32) {
        const char *upper = (const char *)input + row * row_bytes;
        const char *lower = upper + 16 * row_bytes;
        for (int tile = 0; tile < GATE_TILES; tile += 2) {
            const char *left = (const char *)weights + (size_t)tile * depth_tiles * TILE_BYTES;
            const char *right = left + (size_t)depth_tiles * TILE_BYTES;
            float *out = gates + ((size_t)tile * CHUNK_ROWS + row) * UNITS;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int depth = 0; depth < depth_tiles; depth++) {
                _tile_loadd(4, upper + depth * 64, row_bytes);
                _tile_loadd(6, left + depth * TILE_BYTES, 64);
                _tile_loadd(5, lower + depth * 64, row_bytes);
                _tile_loadd(7, right + depth * TILE_BYTES, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, out, 64);
            _tile_stored(1, out + CHUNK_ROWS * UNITS, 64);
            _tile_stored(2, out + 16 * UNITS, 64);
            _tile_stored(3, out + CHUNK_ROWS * UNITS + 16 * UNITS, 64);
        }
    }
}

/* 2^y to 3e-6, the smallest error of a polynomial of degree 4 on [0, 1). Beyond 2^40 nothing
 * changes in an activation, and products of two stay finite. The order of the minimum's operands
 * lets what is not a number through, so that it shows in the result. */
VECTORS static inline __m512 power_of_two(__m512 y)
{
    y = _mm512_min_ps(_mm512_set1_ps(40.0f), y);
    const __m512 fraction = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF);
    __m512 sum = _mm512_set1_ps(0.01367652f);
    sum = _mm512_fmadd_ps(sum, fraction, _mm512_set1_ps(0.05174499f));
    sum = _mm512_fmadd_ps(sum, fraction, _mm512_set1_ps(0.24159838f));
    sum = _mm512_fmadd_ps(sum, fraction, _mm512_set1_ps(0.69298469f));
    sum = _mm512_fmadd_ps(sum, fraction, _mm512_set1_ps(1.0000026f));
    return _mm512_scalef_ps(sum, y);
}

/* The cells of 16 units for all rows of a step, from finished gates to state and output. The
 * reciprocal has 14 bits, far beyond the 8 of bf16. */
VECTORS static inline void update_cells(const float *gates, const float *bias, int rows,
                                        float *cells, bf16 *output)
{
    const size_t next_gate = CHUNK_ROWS * UNITS;
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 minus_two_log2e = _mm512_set1_ps(-2.8853900817779268f);
    const __m512 bias_in = _mm512_loadu_ps(bias);
    const __m512 bias_forget = _mm512_loadu_ps(bias + UNITS);
    const __m512 bias_cell = _mm512_loadu_ps(bias + 2 * UNITS);
    const __m512 bias_out = _mm512_loadu_ps(bias + 3 * UNITS);
    for (int row = 0; row < rows; row++) {
        const float *gate = gates + row * UNITS;
        float *cell = cells + row * HIDDEN;
        const __m512 in = power_of_two(_mm512_add_ps(_mm512_loadu_ps(gate), bias_in));
        const __m512 forget =
            power_of_two(_mm512_add_ps(_mm512_loadu_ps(gate + next_gate), bias_forget));
        const __m512 candidate =
            power_of_two(_mm512_add_ps(_mm512_loadu_ps(gate + 2 * next_gate), bias_cell));
        const __m512 out =
            power_of_two(_mm512_add_ps(_mm512_loadu_ps(gate + 3 * next_gate), bias_out));
        const __m512 keep = _mm512_rcp14_ps(_mm512_add_ps(one, forget));
        const __m512 add = _mm512_mul_ps(
            _mm512_sub_ps(one, candidate),
            _mm512_rcp14_ps(_mm512_mul_ps(_mm512_add_ps(one, in), _mm512_add_ps(one, candidate))));
        const __m512 state = _mm512_fmadd_ps(_mm512_loadu_ps(cell), keep, add);
        _mm512_storeu_ps(cell, state);
        const __m512 squashed = power_of_two(_mm512_mul_ps(state, minus_two_log2e));
        const __m512 shown = _mm512_mul_ps(
            _mm512_sub_ps(one, squashed),
            _mm512_rcp14_ps(_mm512_mul_ps(_mm512_add_ps(one, out), _mm512_add_ps(one, squashed))));
        _mm256_storeu_si256((__m256i *)(output + (size_t)row * 2 * HIDDEN),
                            (__m256i)_mm512_cvtneps_pbh(shown));
    }
}

/* Two tiles of gates plus what the state, held in tiles 0 to 3, contributes. */
TILES static inline void add_state(const char *weights, float *gates)
{
    float *right = gates + CHUNK_ROWS * UNITS;
    const char *next = weights + STATE_TILES * TILE_BYTES;
    _tile_loadd(4, gates, 64);
    _tile_loadd(5, right, 64);
    _tile_loadd(6, weights, 64);
    _tile_dpbf16ps(4, 0, 6);
    _tile_loadd(7, next, 64);
    _tile_dpbf16ps(5, 0, 7);
    _tile_loadd(6, weights + TILE_BYTES, 64);
    _tile_dpbf16ps(4, 1, 6);
    _tile_loadd(7, next + TILE_BYTES, 64);
    _tile_dpbf16ps(5, 1, 7);
    _tile_loadd(6, weights + 2 * TILE_BYTES, 64);
    _tile_dpbf16ps(4, 2, 6);
    _tile_loadd(7, next + 2 * TILE_BYTES, 64);
    _tile_dpbf16ps(5, 2, 7);
    _tile_loadd(6, weights + 3 * TILE_BYTES, 64);
    _tile_dpbf16ps(4, 3, 6);
    _tile_loadd(7, next + 3 * TILE_BYTES, 64);
    _tile_dpbf16ps(5, 3, 7);
    _tile_stored(4, gates, 64);
    _tile_stored(5, right, 64);
}

/* One step. The tiles run one block of units ahead of the vector units, so that both are busy. */
BOTH static void run_step(const bf16 *previous, const bf16 *weights, const float *bias,
                          float *gates, int rows, float *cells, bf16 *output)
{
    const size_t block_bytes = 4 * STATE_TILES * TILE_BYTES;
    const size_t block_gates = 4 * CHUNK_ROWS * UNITS;
    if (previous) {
        const size_t row_bytes = 2 * HIDDEN * sizeof(bf16);
        STORES_ARE_DONE(previous);
        _tile_loadd(0, previous, row_bytes);
        _tile_loadd(1, previous + DEPTH, row_bytes);
        _tile_loadd(2, previous + 2 * DEPTH, row_bytes);
        _tile_loadd(3, previous + 3 * DEPTH, row_bytes);
    }
    for (int block = 0; block <= HIDDEN / UNITS; block++) {
        if (previous && block < HIDDEN / UNITS) {
            const char *own = (const char *)weights + block * block_bytes;
            add_state(own, gates + block * block_gates);
            add_state(own + block_bytes / 2, gates + block * block_gates + block_gates / 2);
        }
        if (block > 0) {
            const int done = block - 1;
            update_cells(gates + done * block_gates, bias + done * 4 * UNITS, rows,
                         cells + done * UNITS, output + done * UNITS);
        }
    }
}

/* One direction of one layer.
 *
 * input: [steps * rows (+ 31 rows that may hold anything)][depth_tiles * 32], rows <= 16;
 * output: [steps][rows][256], of which columns 128 * reverse onwards are written;
 * scratch: fluidaudio_lstm_scratch_floats() floats.
 */
EXPORT BOTH void fluidaudio_lstm_direction(const bf16 *input, int steps, int rows, int depth_tiles,
                                           const bf16 *input_weights, const bf16 *state_weights,
                                           const float *bias, int reverse, bf16 *output,
                                           float *scratch)
{
    float *gates = scratch, *cells = scratch + (size_t)GATE_TILES * CHUNK_ROWS * UNITS;
    const size_t step_size = (size_t)rows * 2 * HIDDEN;
    const int chunk = CHUNK_ROWS / rows;
    const tile_config whole = configured(0, -1, 16), stepwise = configured(0, 5, rows);
    const bf16 *previous = NULL;
    memset(cells, 0, (size_t)UNITS * HIDDEN * sizeof(float));
    STORES_ARE_DONE(&whole);
    STORES_ARE_DONE(&stepwise);
    for (int begun = 0; begun < steps; begun += chunk) {
        const int count = steps - begun < chunk ? steps - begun : chunk;
        const int first = reverse ? steps - begun - count : begun;
        _tile_loadconfig(&whole);
        project(input + (size_t)first * rows * depth_tiles * DEPTH, depth_tiles, input_weights,
                gates, count * rows);
        _tile_loadconfig(&stepwise);
        for (int number = 0; number < count; number++) {
            const int within = reverse ? count - 1 - number : number;
            bf16 *out = output + (first + within) * step_size + reverse * HIDDEN;
            run_step(previous, state_weights, bias, gates + (size_t)within * rows * UNITS, rows,
                     cells, out);
            previous = out;
        }
    }
    _tile_release();
}

EXPORT size_t fluidaudio_lstm_scratch_floats(void)
{
    return (size_t)GATE_TILES * CHUNK_ROWS * UNITS + (size_t)UNITS * HIDDEN;
}

/* fp32 [rows][steps][width] to bf16 [steps][rows][padded], zeros beyond width. */
EXPORT VECTORS void fluidaudio_lstm_pack_input(const float *input, int steps, int rows, int width,
                                               int padded, bf16 *packed)
{
    for (int row = 0; row < rows; row++) {
        for (int step = 0; step < steps; step++) {
            const float *from = input + ((size_t)row * steps + step) * width;
            bf16 *to = packed + ((size_t)step * rows + row) * padded;
            for (int at = 0; at < padded; at += 16) {
                const int left = width - at;
                const __mmask16 mask = (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
                const __m512 values = _mm512_maskz_loadu_ps(mask, from + at);
                _mm256_storeu_si256((__m256i *)(to + at), (__m256i)_mm512_cvtneps_pbh(values));
            }
        }
    }
}

/* bf16 [steps][rows][256] to fp32 [rows][steps][256]. */
EXPORT VECTORS void fluidaudio_lstm_unpack_output(const bf16 *packed, int steps, int rows,
                                                  float *output)
{
    for (int row = 0; row < rows; row++) {
        for (int step = 0; step < steps; step++) {
            const bf16 *from = packed + ((size_t)step * rows + row) * 2 * HIDDEN;
            float *to = output + ((size_t)row * steps + step) * 2 * HIDDEN;
            for (int at = 0; at < 2 * HIDDEN; at += 16) {
                const __m256i raw = _mm256_loadu_si256((const __m256i *)(from + at));
                const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16);
                _mm512_storeu_ps(to + at, _mm512_castsi512_ps(wide));
            }
        }
    }
}

#endif
