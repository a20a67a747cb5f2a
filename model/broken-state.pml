/* Breaks still_there: a parent that does not ask the hand-off lock's file unlocks
 * the file that its child has written into, and whose lock they share. */
#define NO_STATE
#define USERS 1
#define CHILDREN 1
#define ONLY P_still_there
#include "acquire.pml"
