/* Breaks one_holder: when the parent was killed, COMMAND has the flock, but nothing
 * that a program sees which locks with fcntl. */
#define NO_HEIRS
#define FCNTL
#define COMMAND
#define CHILDREN 1
#define USERS 1
#define CRASHES 1
#define ONLY P_one_holder
#include "acquire.pml"
