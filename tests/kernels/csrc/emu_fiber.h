// Fibers of the CPU stand-in: every CUDA thread of a block is one fiber with its own stack on one OS thread.
// x86-64 switches in a few instructions; other processors use ucontext. AddressSanitizer is told about each switch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
extern "C" void __asan_unpoison_memory_region(const volatile void* address, size_t size);
#endif

namespace emu {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 512 * 1024;
#else
constexpr size_t STACK_BYTES = 128 * 1024;
#endif

struct Fiber {
    void* stack_pointer = nullptr;  // where x86-64 resumes
#if !defined(__x86_64__)
    ucontext_t context;
#endif
    void* fake_stack = nullptr;  // AddressSanitizer's
    const void* bottom = nullptr;
    size_t size = 0;
};

#if defined(__x86_64__)
// Saves the callee-saved registers on the old stack and takes them from the new one.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
    .text
    .weak emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");
#endif

// `dying`: the fiber left will not be resumed.
inline void switch_fiber(Fiber& from, Fiber& to, bool dying = false) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(dying ? nullptr : &from.fake_stack, to.bottom, to.size);
#else
    (void)dying;
#endif
#if defined(__x86_64__)
    emu_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// First code of a fiber: `scheduler` learns its own stack's place from the sanitizer here.
inline void entered_fiber(Fiber& scheduler) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler.bottom, &scheduler.size);
#else
    (void)scheduler;
#endif
}

// Prepares `fiber` to start `entry` on `stack`; `entry` must never return.
inline void make_fiber(Fiber& fiber, char* stack, void (*entry)()) {
    fiber.bottom = stack;
    fiber.size = STACK_BYTES;
    fiber.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    // The last block's fiber never returned from its frames, so their red zones are still marked.
    __asan_unpoison_memory_region(stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    // At a function's entry the stack pointer is 8 below a multiple of 16 (the return address has just been pushed).
    void** top = (void**)(((uintptr_t)stack + STACK_BYTES - 64) & ~(uintptr_t)15);
    *--top = nullptr;        // return address of `entry`, never used
    *--top = (void*)entry;   // popped by `ret`
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.stack_pointer = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#endif
}

}  // namespace emu
