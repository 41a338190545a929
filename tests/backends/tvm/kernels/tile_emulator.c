// Executes the instructions of Intel AMX (tiles, int8) in a handler of SIGILL, on CPUs that do not know them.
//
// Every thread has tiles of its own.  What a real CPU would refuse (tiles before a configuration, shapes that do not
// fit each other) is noted as an error.  Source: Intel 64 and IA-32 Software Developer's Manual, volume 2.
#define _GNU_SOURCE
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };
enum { LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED, TDPBUSD, TDPBSUD, KINDS };

static _Thread_local struct {
  int configured;
  int rows[TILES], bytes[TILES];
  uint8_t data[TILES][ROWS][BYTES];
} tiles;

static atomic_long counts[KINDS];
static _Atomic(const char*) error;
static struct sigaction before;

static const int kRegisters[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

struct operand {
  uint8_t* address;
  int64_t stride;
  int length;  // of the instruction
  int scaled;  // whether it has a byte of scale, index and base
};

static struct operand decode_memory(const uint8_t* code, const greg_t* registers) {
  struct operand found = {0, 0, 5, 0};
  int x = !(code[1] & 0x40), b = !(code[1] & 0x20), mod = code[4] >> 6, rm = code[4] & 7;
  int64_t address = 0;
  int wide = mod == 2;
  if (rm == 4) {
    int sib = code[5], index = (sib >> 3 & 7) | x << 3, base = sib & 7;
    found.length = 6;
    found.scaled = 1;
    if (index != 4) found.stride = registers[kRegisters[index]] << (sib >> 6);
    if (base == 5 && mod == 0) {
      wide = 1;
    } else {
      address = registers[kRegisters[base | b << 3]];
    }
  } else if (rm == 5 && mod == 0) {
    wide = 1;
    address = registers[REG_RIP] + 9;
  } else {
    address = registers[kRegisters[rm | b << 3]];
  }
  if (wide) {
    int32_t offset;
    memcpy(&offset, code + found.length, 4);
    address += offset;
    found.length += 4;
  } else if (mod == 1) {
    address += (int8_t)code[found.length];
    found.length += 1;
  }
  found.address = (uint8_t*)address;
  return found;
}

static void configure(const uint8_t* bytes) {
  if (bytes[0] != 1 || bytes[1] != 0) error = "ldtilecfg: palette or first row";
  memset(&tiles, 0, sizeof tiles);
  for (int i = 0; i < TILES; ++i) {
    tiles.bytes[i] = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8;
    tiles.rows[i] = bytes[48 + i];
    if (tiles.bytes[i] > BYTES || tiles.rows[i] > ROWS || !tiles.bytes[i] != !tiles.rows[i]) error = "ldtilecfg: shape";
  }
  tiles.configured = 1;
}

static void multiply(int sums, int left, int right, int left_signed) {
  if (sums == left || sums == right || left == right) error = "tdp: a tile twice";
  if (tiles.rows[sums] != tiles.rows[left] || tiles.bytes[sums] != tiles.bytes[right] ||
      tiles.bytes[left] != 4 * tiles.rows[right]) {
    error = "tdp: shapes";
    return;
  }
  for (int m = 0; m < tiles.rows[sums]; ++m) {
    for (int n = 0; n < tiles.bytes[sums] / 4; ++n) {
      int32_t sum;
      memcpy(&sum, &tiles.data[sums][m][4 * n], 4);
      for (int k = 0; k < tiles.bytes[left]; ++k) {
        uint8_t a = tiles.data[left][m][k], b = tiles.data[right][k / 4][4 * n + k % 4];
        sum += left_signed ? (int8_t)a * (int32_t)b : (int32_t)a * (int8_t)b;
      }
      memcpy(&tiles.data[sums][m][4 * n], &sum, 4);
    }
  }
}

static void move(int kind, int tile, struct operand memory) {
  if (!memory.scaled) error = "tile in memory without a stride";
  for (int row = 0; row < tiles.rows[tile]; ++row) {
    uint8_t* place = memory.address + row * memory.stride;
    if (kind == TILELOADD) {
      memcpy(tiles.data[tile][row], place, tiles.bytes[tile]);
    } else {
      memcpy(place, tiles.data[tile][row], tiles.bytes[tile]);
    }
  }
}

static int note(int kind) {
  counts[kind]++;
  if (kind != LDTILECFG && !tiles.configured) error = "a tile before its configuration";
  return kind;
}

// The length of the instruction, 0 if it is none of AMX.
static int execute(const uint8_t* code, greg_t* registers) {
  int kind = code[3], prefix = code[2] & 3, in_register = code[4] >> 6 == 3, tile = code[4] >> 3 & 7;
  if (code[0] != 0xC4 || (code[1] & 31) != 2 || (code[2] & 0x84)) return 0;
  struct operand memory = {0, 0, 5, 0};
  if (!in_register) memory = decode_memory(code, registers);
  if (kind == 0x49 && prefix == 0 && !in_register) {
    note(LDTILECFG);
    configure(memory.address);
  } else if (kind == 0x49 && prefix == 0 && code[4] == 0xC0) {
    note(TILERELEASE);
    memset(&tiles, 0, sizeof tiles);
  } else if (kind == 0x49 && prefix == 3 && in_register) {
    note(TILEZERO);
    memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
  } else if (kind == 0x4B && (prefix == 2 || prefix == 3) && !in_register) {
    move(note(prefix == 3 ? TILELOADD : TILESTORED), tile, memory);
  } else if (kind == 0x5E && (prefix == 1 || prefix == 2) && in_register) {
    note(prefix == 1 ? TDPBUSD : TDPBSUD);
    multiply(tile, code[4] & 7, ~code[2] >> 3 & 15, prefix == 2);
  } else {
    return 0;
  }
  return memory.length;
}

static void handle(int number, siginfo_t* info, void* context) {
  (void)info;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  int length = execute((const uint8_t*)registers[REG_RIP], registers);
  registers[REG_RIP] += length;
  if (!length) sigaction(number, &before, 0);
}

void emulator_start(void) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
  for (int i = 0; i < KINDS; ++i) counts[i] = 0;
  error = 0;
  sigaction(SIGILL, &action, &before);
}

void emulator_stop(void) { sigaction(SIGILL, &before, 0); }

long emulator_count(int kind) { return counts[kind]; }

const char* emulator_error(void) { return error; }
