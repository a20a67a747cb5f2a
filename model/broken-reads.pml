/* Breaks honest_refusal: where a read lock of fcntl counts, every process that
 * may read the file, and each that waits, keeps starts out. */
#define READS_COUNT
#define FCNTL
#define USERS 1
#define ONLY P_honest_refusal
#include "acquire.pml"
