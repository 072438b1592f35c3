// One CUDA block of the CPU stand-in: its fibers and their scheduler, shared memory with race checks, and cp.async.
//
// Race check: every 4 bytes of shared memory have a shadow with the last writer, the readers and the "epoch", the
// number of block barriers passed. Two threads that touch the same word in the same epoch, at least one of them writing,
// race on a GPU whatever order this run took, so the check does not depend on the schedule. That goes for lanes of one
// warp too: they need not run in step, and no warp instruction of these kernels orders memory.
// cp.async: the target is poisoned and marked when the copy is issued; the data lands in copy_wait, as late as the
// instruction set allows, so a wait that is missing or too weak always shows.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "emu_fiber.h"
#include "emu_global.h"

namespace emu {

constexpr int LANES = 32;
constexpr int MAX_THREADS = 256;
constexpr uint32_t MAX_SHARED = 99 * 1024;
constexpr int SLOT_WORDS = 12;

struct Copy {
    uint32_t target;
    const void* source;
    int total, bytes;
};

enum class State { READY, COLLECTIVE, BARRIER, DONE };

struct Thread {
    Fiber fiber;
    State state = State::READY;
    uint32_t collectives = 0;           // warp collectives this lane has entered
    std::deque<std::vector<Copy>> groups;  // committed copies, oldest first
    std::vector<Copy> open;             // issued, not committed
};

// Operands and results of one warp collective. Two per warp, used in turn: a fast lane may enter the next collective
// before slow lanes have taken their result, but never the one after that.
struct Slot {
    const char* name = nullptr;
    int arrived = 0;
    uint32_t in[LANES][SLOT_WORDS];
    uint32_t out[LANES][4];
};

struct Shadow {
    uint32_t write_epoch = 0, read_epoch = 0;
    int16_t writer = NOBODY, reader = NOBODY;
    bool written = false, in_flight = false;
};

struct Block {
    uint32_t index[3] = {0, 0, 0};
    int threads = 0;
    uint32_t shared_bytes = 0, epoch = 1, random = 1;
    int current = 0;
    Fiber scheduler;
    std::vector<Thread> thread;
    std::vector<Slot> slot;
    std::vector<uint8_t> shared;
    std::vector<Shadow> shadow;
    void (*body)(const void*) = nullptr;
    const void* args = nullptr;
    std::string finding;  // the first error; the block stops there
    int64_t conflicts = 0;
    GlobalMemory global;
};

inline Block*& block() {
    static Block* current = nullptr;
    return current;
}

// Records the first error and leaves the kernel for good.
[[noreturn]] inline void fail(const char* format, ...) {
    Block& b = *block();
    char text[256];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    char place[400];
    std::snprintf(place, sizeof place, "%s (block %u,%u,%u thread %d)", text, b.index[0], b.index[1], b.index[2],
                  b.current);
    if (b.finding.empty()) b.finding = place;
    switch_fiber(b.thread[b.current].fiber, b.scheduler, true);
    std::abort();
}

inline Thread& self() { return block()->thread[block()->current]; }
inline int warp_of_self() { return block()->current / LANES; }

inline void yield_to_scheduler(State state) {
    Block& b = *block();
    Thread& me = self();
    me.state = state;
    switch_fiber(me.fiber, b.scheduler);
}

// --- shared memory -----------------------------------------------------------------------------------------------
inline void check_range(uint32_t address, uint32_t bytes) {
    const Block& b = *block();
    if (address % bytes != 0) fail("shared address %u is not aligned to %u bytes", address, bytes);
    if (address + bytes > b.shared_bytes)
        fail("shared address %u is past the %u bytes of the launch", address, b.shared_bytes);
}

// `whole_warp`: every lane receives it, as ldmatrix does.
inline void note_read(uint32_t address, uint32_t bytes, bool whole_warp = false) {
    Block& b = *block();
    check_range(address, bytes);
    for (uint32_t word = address / 4; word < (address + bytes) / 4; ++word) {
        Shadow& s = b.shadow[word];
        if (s.in_flight) fail("read of shared byte %u while its cp.async is in flight", word * 4);
        if (!s.written) fail("read of shared byte %u that was never written", word * 4);
        if (s.write_epoch == b.epoch && (whole_warp || s.writer != b.current))
            fail("race: read of shared byte %u that thread %d has written without a barrier", word * 4, s.writer);
        const bool first = s.read_epoch != b.epoch || s.reader == b.current;
        s.reader = first && !whole_warp ? (int16_t)b.current : (int16_t)MANY;
        s.read_epoch = b.epoch;
    }
}

inline void note_write(uint32_t address, uint32_t bytes) {
    Block& b = *block();
    check_range(address, bytes);
    for (uint32_t word = address / 4; word < (address + bytes) / 4; ++word) {
        Shadow& s = b.shadow[word];
        if (s.in_flight) fail("write to shared byte %u while a cp.async to it is in flight", word * 4);
        if (s.written && s.write_epoch == b.epoch && s.writer != b.current)
            fail("race: write to shared byte %u that thread %d has written without a barrier", word * 4, s.writer);
        if (s.read_epoch == b.epoch && s.reader != b.current)
            fail("race: write to shared byte %u that another thread reads without a barrier", word * 4);
        s.written = true;
        s.writer = (int16_t)b.current;
        s.write_epoch = b.epoch;
    }
}

// --- global memory -----------------------------------------------------------------------------------------------
inline Access access_of_self() {
    const Block& b = *block();
    return {(int)((b.index[2] * 65536u + b.index[1]) * 65536u + b.index[0]) & 0x7fffffff, b.epoch, b.current};
}

inline void note_global_read(const void* address, size_t bytes) {
    if (const char* wrong = block()->global.read(address, bytes, access_of_self())) fail("%s", wrong);
}

inline void note_global_write(const void* address, size_t bytes, bool atomic = false) {
    if (const char* wrong = block()->global.write(address, bytes, access_of_self(), atomic)) fail("%s", wrong);
}

// --- cp.async ----------------------------------------------------------------------------------------------------
inline void copy_issue(uint32_t target, const void* source, int total, int bytes) {
    Block& b = *block();
    if (bytes != 0 && (uintptr_t)source % total != 0) fail("cp.async source is not aligned to %d bytes", total);
    note_global_read(source, (size_t)bytes);
    note_write(target, total);
    std::memset(&b.shared[target], 0xff, total);
    for (int i = 0; i < total; i += 4) b.shadow[(target + i) / 4].in_flight = true;
    self().open.push_back({target, source, total, bytes});
}

inline void copy_commit_group() {
    Thread& me = self();
    me.groups.push_back(std::move(me.open));
    me.open.clear();
}

inline void copy_wait_group(size_t pending) {
    Block& b = *block();
    Thread& me = self();
    while (me.groups.size() > pending) {
        for (const Copy& copy : me.groups.front()) {
            for (int i = 0; i < copy.total; i += 4) b.shadow[(copy.target + i) / 4].in_flight = false;
            note_write(copy.target, copy.total);
            std::memset(&b.shared[copy.target], 0, copy.total);
            if (copy.bytes) std::memcpy(&b.shared[copy.target], copy.source, copy.bytes);
        }
        me.groups.pop_front();
    }
}

// --- scheduler ---------------------------------------------------------------------------------------------------
inline void fiber_entry() {
    Block& b = *block();
    entered_fiber(b.scheduler);
    b.body(b.args);
    Thread& me = self();
    if (!me.open.empty() || !me.groups.empty()) fail("thread ends with a cp.async in flight");
    me.state = State::DONE;
    switch_fiber(me.fiber, b.scheduler, true);
    std::abort();
}

inline uint32_t next_random(Block& b) {
    b.random = b.random * 1664525u + 1013904223u;
    return b.random >> 8;
}

// Runs one lane of `warp` until it waits; false if none can run. A warp keeps the core while one of its lanes can.
inline bool run_lane(Block& b, int warp) {
    for (int lane = 0; lane < LANES; ++lane) {
        const int index = warp * LANES + lane;
        if (b.thread[index].state != State::READY) continue;
        b.current = index;
        switch_fiber(b.scheduler, b.thread[index].fiber);
        return true;
    }
    return false;
}

// All lanes wait or have ended: open the barrier if every thread stands at it, else say what is wrong.
inline bool open_barrier(Block& b) {
    int at_barrier = 0, done = 0;
    for (const Thread& t : b.thread) {
        at_barrier += t.state == State::BARRIER;
        done += t.state == State::DONE;
    }
    if (done == b.threads) return false;
    if (at_barrier == b.threads) {
        ++b.epoch;
        for (Thread& t : b.thread) t.state = State::READY;
        return true;
    }
    char text[160];
    std::snprintf(text, sizeof text, "deadlock: %d threads at a barrier, %d in a warp collective, %d ended", at_barrier,
                  b.threads - at_barrier - done, done);
    b.finding = text;
    return false;
}

inline void run_block(Block& b, std::vector<std::unique_ptr<char[]>>& stacks) {
    b.epoch = 1;
    b.thread.clear();
    b.thread.resize(b.threads);
    b.slot.assign(2 * b.threads / LANES, Slot());
    b.shared.assign(b.shared_bytes, 0xff);
    b.shadow.assign(b.shared_bytes / 4, Shadow());
    for (int i = 0; i < b.threads; ++i) make_fiber(b.thread[i].fiber, stacks[i].get(), fiber_entry);
    const int warps = b.threads / LANES;
    while (b.finding.empty()) {
        const int start = next_random(b) % warps;
        bool ran = false;
        for (int i = 0; i < warps && b.finding.empty(); ++i)
            while (b.finding.empty() && run_lane(b, (start + i) % warps)) ran = true;
        if (b.finding.empty() && !ran && !open_barrier(b)) break;
    }
}

}  // namespace emu
