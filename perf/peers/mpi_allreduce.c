/* Times MPI_Allreduce of float32 sums, out of place, by the method of `hora perf` (perf/runner.h), so that the two can
   be compared: the source is dirtied and all ranks meet in shared memory before each call, and the slowest rank's time
   counts. Between hosts they meet at MPI_Barrier instead. Writes one JSON object a line for each size, from rank 0.

   usage: mpirun -np N mpi_allreduce BYTES_LEAST BYTES_MOST FACTOR USABLE_CPUS */
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kLine = 64, kPage = 4096, kSpinsBeforeYield = 50, kCallsMost = 3000 };

/* One a rank, far enough apart for processors that fetch pairs of lines. */
struct slot {
  _Alignas(128) atomic_long turn;
};

struct job {
  int rank, ranks, crowded;
  struct slot* slots;
  long turn;
};

static void meet(struct job* job) {
  if (job->slots == NULL) {
    MPI_Barrier(MPI_COMM_WORLD);
    return;
  }
  atomic_store_explicit(&job->slots[job->rank].turn, ++job->turn, memory_order_release);
  for (int rank = 0; rank < job->ranks; ++rank) {
    for (int spins = 0; atomic_load_explicit(&job->slots[rank].turn, memory_order_acquire) < job->turn; ++spins) {
      if (job->crowded && spins > kSpinsBeforeYield) sched_yield();
    }
  }
}

/* NULL: not all ranks are on one host. */
static struct slot* share_slots(int rank, int ranks) {
  MPI_Comm host;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  int neighbours;
  MPI_Comm_size(host, &neighbours);
  MPI_Allreduce(MPI_IN_PLACE, &neighbours, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (neighbours != ranks) return NULL;
  MPI_Aint bytes = rank == 0 ? (MPI_Aint)sizeof(struct slot) * (ranks + 1) : 0;
  void* base;
  int unit;
  MPI_Win window;
  MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, host, &base, &window);
  MPI_Win_shared_query(window, 0, &bytes, &unit, &base);
  /* Ranks may map it at different addresses, but at the same offset from a page. */
  const size_t misplaced = (size_t)base % sizeof(struct slot);
  struct slot* slots = (struct slot*)((char*)base + (misplaced ? sizeof(struct slot) - misplaced : 0));
  atomic_store(&slots[rank].turn, 0);
  MPI_Barrier(MPI_COMM_WORLD);
  return slots;
}

static int ascending(const void* left, const void* right) {
  const double a = *(const double*)left, b = *(const double*)right;
  return (a > b) - (a < b);
}

/* Of the slowest rank of each call. */
static double median_of_slowest(double* times, int calls) {
  MPI_Allreduce(MPI_IN_PLACE, times, calls, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  qsort(times, (size_t)calls, sizeof *times, ascending);
  return times[(calls - 1) / 2] * 1e6;
}

static void dirty(float* source, size_t bytes, float value) {
  for (size_t i = 0; i < bytes / sizeof *source; i += kLine / sizeof *source) source[i] = value;
}

static int calls_for(size_t bytes, int crowded) {
  const int calls = bytes <= 16 << 10 ? 3000 : bytes <= 1 << 20 ? 300 : bytes <= 8 << 20 ? 40 : 12;
  return crowded ? calls / 10 + 6 : calls;
}

static void measure(struct job* job, float* source, float* target, size_t bytes) {
  static double times[kCallsMost];
  const int count = (int)(bytes / sizeof *source), calls = calls_for(bytes, job->crowded), warm_up = calls / 10 + 12;
  long wrong = 0;
  for (int call = -warm_up; call < calls; ++call) {
    const float mine = (float)((job->rank + call + warm_up) % 7);
    dirty(source, bytes, mine);
    meet(job);
    const double begin = MPI_Wtime();
    MPI_Allreduce(source, target, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    const double time = MPI_Wtime() - begin;
    meet(job);
    float wanted = 0;
    for (int rank = 0; rank < job->ranks; ++rank) wanted += (float)((rank + call + warm_up) % 7);
    if (target[0] != wanted) ++wrong;
    if (call >= 0) times[call] = time;
  }
  const double typical = median_of_slowest(times, calls);
  meet(job);
  double begin = MPI_Wtime();
  for (int call = 0; call < calls; ++call) {
    MPI_Allreduce(source, target, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  }
  double chained = (MPI_Wtime() - begin) / calls;
  chained = median_of_slowest(&chained, 1);
  const int copies = calls < 9 ? calls : 9;
  for (int copy = 0; copy < copies; ++copy) {
    dirty(source, bytes, (float)copy);
    meet(job);
    begin = MPI_Wtime();
    memcpy(target, source, bytes);
    __asm__ volatile("" : : "r"(target) : "memory");
    times[copy] = MPI_Wtime() - begin;
    meet(job);
  }
  const double copied = median_of_slowest(times, copies);
  MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
  if (job->rank == 0) {
    printf("{\"bytes\": %zu, \"p50_us\": %.3f, \"back_to_back_us\": %.3f, \"memcpy_p50_us\": %.3f, \"wrong\": %ld}\n",
           bytes, typical, chained, copied, wrong);
    fflush(stdout);
  }
}

static float* filled(size_t bytes) {
  const size_t whole = (bytes + kPage - 1) / kPage * kPage;
  float* memory = aligned_alloc(kPage, whole);
  if (memory == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  memset(memory, 0, whole);
  return memory;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  if (argc != 5) {
    fprintf(stderr, "usage: mpi_allreduce BYTES_LEAST BYTES_MOST FACTOR USABLE_CPUS\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  struct job job = {0};
  MPI_Comm_rank(MPI_COMM_WORLD, &job.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &job.ranks);
  const size_t least = strtoull(argv[1], NULL, 10), most = strtoull(argv[2], NULL, 10),
               factor = strtoull(argv[3], NULL, 10);
  job.crowded = job.ranks > atoi(argv[4]);
  job.slots = share_slots(job.rank, job.ranks);
  float *source = filled(most), *target = filled(most);
  for (size_t bytes = least; bytes <= most; bytes *= factor) measure(&job, source, target, bytes);
  MPI_Finalize();
  return 0;
}
