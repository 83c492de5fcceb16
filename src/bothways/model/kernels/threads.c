/* The same work by several threads, which share it out among themselves. */

#include <pthread.h>

#include "words.h"

#define MOST_THREADS 63

typedef struct {
    void (*run)(void *);
    void *work;
} share_t;

static void (*begin)(void (*)(void *), void *, unsigned, unsigned);

/* torch's own threads, which are awake: GOMP_parallel of the OpenMP that it uses */
void use_threads(void *of_openmp) { *(void **)&begin = of_openmp; }

static void *shared(void *given) {
    const share_t *share = given;
    share->run(share->work);
    return 0;
}

void together(void (*run)(void *), void *work, int threads) {
    pthread_t others[MOST_THREADS];
    share_t share = {run, work};
    int begun = 0;
    if (threads > 1 && begin) {
        begin(run, work, (unsigned)threads, 0);
        return;
    }
    while (begun < threads - 1 && begun < MOST_THREADS && !pthread_create(&others[begun], 0, shared, &share))
        begun++;
    run(work);
    while (begun)
        pthread_join(others[--begun], 0);
}
