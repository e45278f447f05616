/* AMX in plain C, for machines without it: each tile instruction is an illegal one there, and what SIGILL's handler does in its
 * place is what Intel's Software Developer's Manual (volume 2, and volume 1, chapter 18) says in pseudo-code. So the very
 * objects that the library is made of run, with tiles that check every rule which a CPU would fault over. A machine with AMX never
 * gets here: its own tiles are tested.
 */
#ifndef TILES_H
#define TILES_H

#include <signal.h>
#include <ucontext.h>

enum { TILES = 8, MOST_LINES = 16, MOST_BYTES = 64 };

typedef struct {
    size_t lines, bytes; /* 0: the tile may not be used */
    uint8_t at[MOST_LINES][MOST_BYTES];
} tile;

static _Thread_local tile tiles[TILES];
static _Thread_local bool tiles_configured;
static _Atomic unsigned long tiles_run; /* instructions, of all threads */
static _Atomic bool tiles_broken;       /* products are wrong, to see whether somebody notices */

/* ---- the instructions ---- */

static void tile_release(void)
{
    memset(tiles, 0, sizeof tiles);
    tiles_configured = false;
}

static void tile_configure(const uint8_t *config)
{
    tile_release();
    REQUIRE(config[0] == 1 && config[1] == 0); /* the one palette there is; lines start at 0 */
    for (int i = 2; i < 16; i++) REQUIRE(config[i] == 0);
    for (int i = 16 + 2 * TILES; i < 48; i++) REQUIRE(config[i] == 0);
    for (int i = 48 + TILES; i < 64; i++) REQUIRE(config[i] == 0);
    for (int i = 0; i < TILES; i++) {
        uint16_t bytes;
        memcpy(&bytes, config + 16 + 2 * i, sizeof bytes);
        tiles[i].bytes = bytes;
        tiles[i].lines = config[48 + i];
        REQUIRE(bytes <= MOST_BYTES && tiles[i].lines <= MOST_LINES && (bytes == 0) == (tiles[i].lines == 0));
    }
    tiles_configured = true;
}

static void tile_zero(tile *to) { memset(to->at, 0, sizeof to->at); }

static void tile_load(tile *to, const uint8_t *from, ptrdiff_t stride)
{
    tile_zero(to);
    for (size_t i = 0; i < to->lines; i++) memcpy(to->at[i], from + (ptrdiff_t)i * stride, to->bytes);
}

static void tile_store(const tile *from, uint8_t *to, ptrdiff_t stride)
{
    for (size_t i = 0; i < from->lines; i++) memcpy(to + (ptrdiff_t)i * stride, from->at[i], from->bytes);
}

/* sums += x w, four signed bytes of x with four unsigned ones of w. */
static void tile_dot_signed_unsigned(tile *sums, const tile *x, const tile *w)
{
    REQUIRE(sums != x && sums != w && x != w);
    REQUIRE(sums->lines == x->lines && sums->bytes == w->bytes && x->bytes % 4 == 0 && x->bytes / 4 == w->lines);
    for (size_t i = 0; i < sums->lines; i++)
        for (size_t j = 0; j < sums->bytes / 4; j++) {
            uint32_t sum;
            memcpy(&sum, sums->at[i] + 4 * j, sizeof sum);
            for (size_t k = 0; k < x->bytes; k++)
                sum += (uint32_t)((int8_t)x->at[i][k] * (int)w->at[k / 4][4 * j + k % 4]);
            if (tiles_broken && i == 7 && j == 3) sum++;
            memcpy(sums->at[i] + 4 * j, &sum, sizeof sum);
        }
}

/* ---- from machine code to them ---- */

typedef struct {
    const uint8_t *at; /* the byte to be read next */
    const greg_t *registers;
    bool r, x, b; /* the upper bits of reg, index and base, or rm */
    uint8_t vvvv, prefix, opcode, mod, reg, rm;
    ptrdiff_t index; /* what the index register adds: the stride of loads and stores */
} instruction;

enum { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static greg_t register_of(const instruction *in, bool upper, uint8_t number)
{
    static const int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return in->registers[ORDER[upper * 8 + number]];
}

/* The memory operand without its index. No tile instruction has an immediate, so it ends the instruction. */
static uint8_t *base_of(instruction *in)
{
    uint8_t base = in->rm;
    const bool sib = base == 4;
    if (sib) {
        const uint8_t byte = *in->at++, index = byte >> 3 & 7;
        base = byte & 7;
        if (in->x || index != 4) in->index = (ptrdiff_t)register_of(in, in->x, index) << (byte >> 6);
    }
    const bool bare = in->mod == 0 && base == 5; /* 32 bits alone, or from the next instruction on */
    ptrdiff_t displacement = 0;
    if (in->mod == 1) {
        displacement = (int8_t)*in->at++;
    } else if (in->mod == 2 || bare) {
        int32_t word;
        memcpy(&word, in->at, sizeof word);
        in->at += sizeof word;
        displacement = word;
    }
    const greg_t from = !bare ? register_of(in, in->b, base) : sib ? 0 : (greg_t)(intptr_t)in->at;
    return (uint8_t *)(uintptr_t)(from + displacement);
}

/* A tile that an instruction names. */
static tile *tile_at(uint8_t number)
{
    REQUIRE(tiles_configured && number < TILES && tiles[number].lines > 0);
    return &tiles[number];
}

static bool run_memory(instruction *in)
{
    uint8_t *base = base_of(in);
    if (in->opcode == 0x49 && in->reg == 0 && in->prefix == PREFIX_NONE)
        tile_configure(base + in->index);
    else if (in->opcode == 0x4b && in->prefix == PREFIX_F2)
        tile_load(tile_at(in->reg), base, in->index);
    else if (in->opcode == 0x4b && in->prefix == PREFIX_F3)
        tile_store(tile_at(in->reg), base, in->index);
    else
        return false;
    return true;
}

static bool run_registers(const instruction *in)
{
    if (in->opcode == 0x49 && in->prefix == PREFIX_NONE && in->reg == 0 && in->rm == 0)
        tile_release();
    else if (in->opcode == 0x49 && in->prefix == PREFIX_F2)
        tile_zero(tile_at(in->reg));
    else if (in->opcode == 0x5e && in->prefix == PREFIX_F3)
        tile_dot_signed_unsigned(tile_at(in->reg), tile_at(in->rm), tile_at(in->vvvv));
    else
        return false;
    return true;
}

/* VEX.128.0F38.W0 with three bytes of prefix, opcode, ModRM. */
static bool run_instruction(ucontext_t *context)
{
    greg_t *registers = context->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)(uintptr_t)registers[REG_RIP];
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || code[2] & 0x84) return false;
    instruction in = {
        .at = code + 5, .registers = registers, .r = !(code[1] & 0x80), .x = !(code[1] & 0x40), .b = !(code[1] & 0x20),
        .vvvv = ~code[2] >> 3 & 15, .prefix = code[2] & 3, .opcode = code[3],
        .mod = code[4] >> 6, .reg = code[4] >> 3 & 7, .rm = code[4] & 7};
    if (in.r || !(in.mod == 3 ? run_registers(&in) : run_memory(&in))) return false;
    registers[REG_RIP] = (greg_t)(intptr_t)in.at;
    tiles_run++;
    return true;
}

static void on_illegal(int signal_number, siginfo_t *info, void *context)
{
    (void)info;
    if (!run_instruction(context)) signal(signal_number, SIG_DFL); /* a truly illegal one: it comes again, and ends the test */
}

static void tiles_begin(void)
{
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    REQUIRE(sigaction(SIGILL, &action, NULL) == 0);
}

#endif
