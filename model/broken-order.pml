/* Breaks no_deadlock: a waiter that keeps a newer file and waits for an older
 * one meets another that does the reverse. */
#define WAIT_ON_OLDER
#define USERS 2
#define ROUNDS 2
#define CANCELS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
