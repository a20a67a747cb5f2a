/* Breaks no_deadlock: a waiter that keeps the lock of a file that is the path's
 * still waits for itself. */
#define NO_LEFT
#define SPARE_REMOVED
#define USERS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
