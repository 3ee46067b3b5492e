// Preloaded, it lets the CPU pass for an older one: CPUID faults (arch_prctl(2): ARCH_SET_CPUID), and the handler answers
// without the bits of AS_CPU_OFF. Programs that are started by this one inherit the environment, and with it the same CPU.
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012, MOST = 64 };

static struct { uint32_t leaf, subleaf, number, bits; } off[MOST];  // number: of the register, eax 0 to edx 3
static int offs;
static struct sigaction theirs;  // what the program itself wants done with SIGSEGV
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

static int cpuid_faults(int yes) { return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, !yes); }

static void answer(greg_t *registers) {
    const uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
    const int order[4] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX};
    uint32_t got[4];
    cpuid_faults(0);
    __cpuid_count(leaf, subleaf, got[0], got[1], got[2], got[3]);
    cpuid_faults(1);
    for (int i = 0; i < offs; ++i)
        if (off[i].leaf == leaf && off[i].subleaf == subleaf) got[off[i].number] &= ~off[i].bits;
    for (int i = 0; i < 4; ++i) registers[order[i]] = got[i];
    registers[REG_RIP] += 2;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    // A fault of CPUID has no address: the kernel sends it, and the code at hand can be read.
    if (info->si_code == SI_KERNEL && !memcmp((const void *)registers[REG_RIP], "\x0f\xa2", 2)) {
        answer(registers);
    } else if (theirs.sa_handler == SIG_DFL || theirs.sa_handler == SIG_IGN) {
        const struct sigaction plain = {.sa_handler = SIG_DFL};
        real_sigaction(SIGSEGV, &plain, NULL);  // the instruction runs once more and ends the program
    } else if (theirs.sa_flags & SA_SIGINFO) {
        theirs.sa_sigaction(number, info, context);
    } else {
        theirs.sa_handler(number);
    }
}

int sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    if (!real_sigaction) *(void **)&real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSEGV) return real_sigaction(number, action, before);
    const struct sigaction was = theirs;
    if (action) theirs = *action;
    if (before) *before = was;
    return 0;
}

sighandler_t signal(int number, sighandler_t handler) {
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction before;
    return sigaction(number, &action, &before) ? SIG_ERR : before.sa_handler;
}

static const char *instead(const char *path) {
    const char *info = getenv("AS_CPU_INFO");
    return info && path && !strcmp(path, "/proc/cpuinfo") ? info : path;
}

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                                \
        static int (*real)(const char *, int, ...);                             \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                   \
        va_list given;                                                          \
        va_start(given, flags);                                                 \
        const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(given, int) : 0; \
        va_end(given);                                                          \
        return real(instead(path), flags, mode);                                \
    }
#define FOPEN(name)                                            \
    FILE *name(const char *path, const char *mode) {           \
        static FILE *(*real)(const char *, const char *);      \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);  \
        return real(instead(path), mode);                      \
    }
OPEN(open)
OPEN(open64)
FOPEN(fopen)
FOPEN(fopen64)

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("AS_CPU_OFF");  // "leaf:subleaf:register:bits ...", in hexadecimal
    for (int used; text && offs < MOST; text += used, ++offs)
        if (sscanf(text, "%x:%x:%x:%x%n", &off[offs].leaf, &off[offs].subleaf, &off[offs].number, &off[offs].bits, &used) < 4)
            break;
    const struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    *(void **)&real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    if (real_sigaction(SIGSEGV, &ours, NULL) || cpuid_faults(1)) {
        fputs("error: this kernel or CPU does not let CPUID fault (arch_prctl's ARCH_SET_CPUID)\n", stderr);
        _exit(1);
    }
}
