// Package pidfile makes sure that one instance of a program runs, and says who
// it is.
package pidfile
