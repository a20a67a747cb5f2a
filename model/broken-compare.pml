/* Breaks one_holder: without comparing the inode after the lock, two hold the
 * path. One opens the file; its holder releases, and a third gives birth to
 * another; the first gets the lock of the old one and takes the path with it. */
#define NO_COMPARE
#define USERS 2
#define ROUNDS 2
#define ONLY P_one_holder
#include "acquire.pml"
