// Who touched which 2 bytes of global memory in one launch: the race check between blocks, warps and lanes.
//
// Blocks run in no order that a kernel may rely on, so two blocks that touch the same value, one of them writing, race
// whatever happened here; so do two threads of one block between two barriers. Atomics may meet atomics.
#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace emu {

constexpr int NOBODY = -1, MANY = -2;
constexpr uintptr_t GRANULE = 2, PAGE_CELLS = 2048;

struct Cell {
    int write_block = NOBODY, read_block = NOBODY;  // MANY: readers in several blocks
    uint32_t write_epoch = 0, read_epoch = 0;
    int16_t writer = NOBODY, reader = NOBODY;  // threads; MANY: several in this epoch
    bool atomic = false;
};

struct Page {
    Cell cell[PAGE_CELLS];
};

// What a thread does to a value, and where it stands.
struct Access {
    int block;
    uint32_t epoch;
    int thread;
};

class GlobalMemory {
  public:
    // Both return null, or what is wrong.
    const char* read(const void* address, size_t bytes, const Access& by) {
        for (uintptr_t at = (uintptr_t)address / GRANULE; at < ((uintptr_t)address + bytes) / GRANULE; ++at) {
            Cell& c = cell(at);
            if (c.write_block != NOBODY && meets(c.write_block, c.write_epoch, c.writer, by))
                return "race: a thread reads global memory that another one writes";
            if (c.read_block == NOBODY || (c.read_block == by.block && c.read_epoch != by.epoch)) {
                c.read_block = by.block;
                c.reader = (int16_t)by.thread;
                c.read_epoch = by.epoch;
            } else if (c.read_block != by.block) {
                c.read_block = MANY;
            } else if (c.reader != by.thread) {
                c.reader = MANY;
            }
        }
        return nullptr;
    }

    const char* write(const void* address, size_t bytes, const Access& by, bool atomic) {
        for (uintptr_t at = (uintptr_t)address / GRANULE; at < ((uintptr_t)address + bytes) / GRANULE; ++at) {
            Cell& c = cell(at);
            if (c.write_block != NOBODY && !(c.atomic && atomic) && meets(c.write_block, c.write_epoch, c.writer, by))
                return "race: two threads write the same global memory";
            if (c.read_block != NOBODY && meets(c.read_block, c.read_epoch, c.reader, by))
                return "race: a thread writes global memory that another one reads";
            c.write_block = by.block;
            c.writer = (int16_t)by.thread;
            c.write_epoch = by.epoch;
            c.atomic = atomic;
        }
        return nullptr;
    }

  private:
    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
    uintptr_t last_ = ~(uintptr_t)0;
    Page* page_ = nullptr;

    static bool meets(int block, uint32_t epoch, int thread, const Access& by) {
        return block != by.block || (epoch == by.epoch && thread != by.thread);
    }

    Cell& cell(uintptr_t at) {
        if (at / PAGE_CELLS != last_) {
            last_ = at / PAGE_CELLS;
            std::unique_ptr<Page>& found = pages_[last_];
            if (!found) found.reset(new Page);
            page_ = found.get();
        }
        return page_->cell[at % PAGE_CELLS];
    }
};

}  // namespace emu
