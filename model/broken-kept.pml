/* Breaks no_deadlock: the goroutine of waiters that have all gone keeps the
 * locks it has, and who waits for them is never woken. */
#define NO_DROP
#define USERS 1
#define WAITERS 2
#define CANCELS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
