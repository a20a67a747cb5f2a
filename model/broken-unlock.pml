/* Breaks no_deadlock: a child that inherited the descriptor keeps the lock
 * of a file that its parent only closes, and who waits for it is never woken. */
#define NO_UNLOCK
#define USERS 2
#define CHILDREN 1
#define ONLY P_no_deadlock
#include "acquire.pml"
