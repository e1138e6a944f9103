/*
 * A PKCS#11 module that passes every call on to another one (SEALWRIGHT_FAULTS_MODULE), counts some of them, and delays or fails them
 * on demand, which a software token never does by itself. It can also kill the process before or after a call. Tests build it with
 * `cc -shared -fPIC`. If SEALWRIGHT_FAULTS_CELLS names a file, the values are in it, for another process to set. See pkcs11_faults.py.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef unsigned long ulong;
/* The longest function has eight arguments. A function with fewer ignores the others. */
typedef ulong (*call)(ulong, ulong, ulong, ulong, ulong, ulong, ulong, ulong);

/* CK_FUNCTION_LIST (v2.40 3.6): indexes are the same in every version. */
typedef struct { unsigned char version[2]; void *functions[68]; } list;
enum { INITIALIZE = 0, FINALIZE = 1, MECHANISMS = 7, OPEN_SESSION = 12, CLOSE_ALL = 14, LOGIN = 18, FIND_INIT = 26,
       SIGN_INIT = 42, SIGN = 43, GENERATE_PAIR = 59, PLACES = 68 };

/* Values that tests set and read through fault_cell. */
enum { CALLS = 0, FAILURES = 100, VALUE = 200, DELAY_MS = 300, HIDDEN = 400, INSIDE = 500, INTRUSIONS = 501, KILL_BEFORE = 600,
       KILL_AFTER = 700, CELLS = 800 };
static atomic_long own[CELLS], *cells = own;
static list ours, *theirs;

__attribute__((constructor)) static void share_cells(void) {
    const char *path = getenv("SEALWRIGHT_FAULTS_CELLS");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) cells = shared;
}

atomic_long *fault_cell(int index) { return &cells[index]; }

/* Kill this process if the count of a cell ends here. The cell is then 0, so that the next process goes on. */
static void kill_at(int cell) {
    if (cells[cell] > 0 && --cells[cell] == 0) kill(getpid(), SIGKILL);
}

/* Wait, fail or call, as tests request, and count resets during which other calls are inside. */
static ulong pass(int place, ulong a, ulong b, ulong c, ulong d, ulong e, ulong f, ulong g, ulong h) {
    int drastic = place == FINALIZE || place == CLOSE_ALL;
    cells[CALLS + place]++;
    kill_at(KILL_BEFORE + place);
    if (drastic && cells[INSIDE]) cells[INTRUSIONS]++;
    if (!drastic) cells[INSIDE]++;
    long delay = cells[DELAY_MS + place];
    for (long waited = 0; waited < delay && cells[DELAY_MS + place]; waited += 5) usleep(5000);
    ulong value;
    if (cells[FAILURES + place] > 0) { cells[FAILURES + place]--; value = (ulong) cells[VALUE + place]; }
    else value = ((call) theirs->functions[place])(a, b, c, d, e, f, g, h);
    kill_at(KILL_AFTER + place);
    if (!drastic) cells[INSIDE]--;
    return value;
}

static int hidden(ulong mechanism) {
    for (int i = 0; i < 100; i++) if (cells[HIDDEN + i] && (ulong) (cells[HIDDEN + i] - 1) == mechanism) return 1;
    return 0;
}

#define HAND_ON(name, place) \
    static ulong name(ulong a, ulong b, ulong c, ulong d, ulong e, ulong f, ulong g, ulong h) { \
        return pass(place, a, b, c, d, e, f, g, h); \
    }
HAND_ON(initialize, INITIALIZE)
HAND_ON(finalize, FINALIZE)
HAND_ON(open_session, OPEN_SESSION)
HAND_ON(close_all, CLOSE_ALL)
HAND_ON(login, LOGIN)
HAND_ON(find_init, FIND_INIT)
HAND_ON(sign, SIGN)
HAND_ON(generate_pair, GENERATE_PAIR)

static ulong sign_init(ulong session, ulong *mechanism, ulong key) {
    if (hidden(*mechanism)) return 0x70; /* CKR_MECHANISM_INVALID */
    return pass(SIGN_INIT, session, (ulong) mechanism, key, 0, 0, 0, 0, 0);
}

static ulong mechanisms(ulong slot, ulong *found, ulong *count) {
    ulong value = ((call) theirs->functions[MECHANISMS])(slot, (ulong) found, (ulong) count, 0, 0, 0, 0, 0);
    if (value || !found) return value;
    ulong kept = 0;
    for (ulong i = 0; i < *count; i++) if (!hidden(found[i])) found[kept++] = found[i];
    /* Replace the remaining entries with vendor-defined mechanisms. */
    for (; kept < *count; kept++) found[kept] = 0x80000000UL + kept;
    return value;
}

ulong C_GetFunctionList(list **answer) {
    if (!theirs) {
        const char *path = getenv("SEALWRIGHT_FAULTS_MODULE");
        void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        ulong (*get)(list **) = module ? (ulong (*)(list **)) dlsym(module, "C_GetFunctionList") : NULL;
        if (!get || get(&theirs)) return 0x5; /* CKR_GENERAL_ERROR */
        memcpy(&ours, theirs, sizeof ours);
        ours.functions[INITIALIZE] = (void *) initialize;
        ours.functions[FINALIZE] = (void *) finalize;
        ours.functions[MECHANISMS] = (void *) mechanisms;
        ours.functions[OPEN_SESSION] = (void *) open_session;
        ours.functions[CLOSE_ALL] = (void *) close_all;
        ours.functions[LOGIN] = (void *) login;
        ours.functions[FIND_INIT] = (void *) find_init;
        ours.functions[SIGN_INIT] = (void *) sign_init;
        ours.functions[SIGN] = (void *) sign;
        ours.functions[GENERATE_PAIR] = (void *) generate_pair;
    }
    *answer = &ours;
    return 0;
}
